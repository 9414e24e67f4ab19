// What a node says to central: SenML (RFC 8428) for its readings, JSON for its description. Plain C++11, without ESPHome.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace maillages {

// One pack with one reading: station/sensor/, the quantity, its SenML unit, the value, and when it was taken (Unix seconds,
// UTC). Empty when there is no value (NaN) or no time yet (a clock that was never set): nothing is invented, nothing sent.
inline std::string pack(const std::string &station, const std::string &sensor, const std::string &quantity,
                        const std::string &unit, double value, int64_t time_s) {
  const int64_t earliest_s = 1735689600;  // 2025-01-01: before it, the clock is not set
  if (!std::isfinite(value) || time_s < earliest_s)
    return "";
  char number[32], when[24];
  std::snprintf(number, sizeof number, "%.4f", value);
  std::snprintf(when, sizeof when, "%lld", static_cast<long long>(time_s));
  return "[{\"bn\":\"" + station + "/" + sensor + "/\",\"n\":\"" + quantity + "\",\"u\":\"" + unit + "\",\"v\":" + number +
         ",\"t\":" + when + "}]";
}

// The retained `status` of a node: online, with the time at which it connected (RFC 3339).
inline std::string status(const std::string &version, int64_t time_s, const std::string &since) {
  return "{\"online\":true,\"boot\":\"" + std::to_string(time_s) + "\",\"version\":\"" + version + "\",\"since\":\"" + since +
         "\"}";
}

}  // namespace maillages
