#!/bin/sh
{ # To the very end: a file that was cut short is a syntax error, and nothing of it is run.
# Maillages: installs or upgrades a gateway, without a network. Options: sh FILE --help
# The head of each bundle (`maillages-central bundle`); POSIX sh. What follows it is a tar archive, then one line of signature.
set -eu
umask 022
LINES=@LINES@
TRAILER=152

usage() {
    cat <<'END'
sh FILE [--root DIR] [--python PROGRAM] [--downgrade] [--check]
  --root DIR      install below DIR instead of /
  --python P      the Python to use (default: python3)
  --downgrade     also when older than what is installed; asks on the terminal
  --check         verify the signature only
Exit code 0: installed (or nothing to do); 1: not healthy, the old version is back; 2: refused, nothing was changed.
END
}

say() { printf '  %s\n' "$*"; }
refuse() { printf '  Refused: %s\n  What to do: %s.\n' "$1" "$2" >&2; exit 2; }
field() { sed -n "s/^$2=//p" "$1"; }
uptime_s() { cut -d. -f1 /proc/uptime; }
managed() { [ -d "$root/run/systemd/system" ]; }
point() { ln -sfn "$2" "$1.new"; mv -fT "$1.new" "$1"; }
link() { mkdir -p "$(dirname "$2")"; point "$2" "$1"; }
# Units are copies: `systemctl enable` would follow a link to one release, which a later upgrade removes.
units() {
    mkdir -p "$root/etc/systemd/system"
    for unit in maillages-edge.service maillages-clock.service maillages-trial.service maillages-nightly.service \
        maillages-nightly.timer; do
        [ -f "$base/$1/share/systemd/$unit" ] || continue # one of an older release has not all of them
        cp "$base/$1/share/systemd/$unit" "$root/etc/systemd/system/.$unit.new"
        mv -f "$root/etc/systemd/system/.$unit.new" "$root/etc/systemd/system/$unit"
    done
}

# verify FILE DIRECTORY: the signature, by the pinned key or at first by the file's own; leaves the archive in DIRECTORY/tar.
verify() {
    command -v openssl >/dev/null || refuse "openssl is not installed" "apt install openssl"
    size=$(stat -c %s "$1")
    [ "$size" -gt "$TRAILER" ] || refuse "$1 is cut short" "copy it again"
    tail -c "$TRAILER" "$1" | tr -d '\0' >"$2/trailer"
    read -r word key signature <"$2/trailer" || word=
    [ "$word" = MAILLAGES-ED25519 ] || refuse "$1 carries no signature: it is cut short, or unsigned" "copy it again"
    pinned=$base/signer
    if [ -f "$pinned" ] && [ "$key" != "$(cat "$pinned")" ]; then
        refuse "$1 is signed by $key, this gateway knows $(cat "$pinned")" \
            "ask the administrator; if the key has changed, remove $pinned by hand"
    fi
    head -c $((size - TRAILER)) "$1" >"$2/body"
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; printf %s "$key" | base64 -d; } >"$2/key" 2>/dev/null ||
        refuse "$1 has a damaged signature" "copy it again"
    printf %s "$signature" | base64 -d >"$2/signature" 2>/dev/null || refuse "$1 has a damaged signature" "copy it again"
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$2/key" -rawin -in "$2/body" -sigfile "$2/signature" \
        >/dev/null 2>&1 || refuse "$1 is not what was signed: damaged, or changed" "copy it again; if that does not help, ask"
}

# Waits until the new version is healthy, else brings the old one back. Run by maillages-trial.service, also after a power cut.
judge() {
    steady=$1 limit=$2
    [ -f "$base/trial" ] || return 0
    new=$(field "$base/trial" new) old=$(field "$base/trial" old)
    if [ "$(readlink "$base/current")" != "$new" ]; then
        rm -f "$base/trial"
        return 0
    fi
    units "$new" # a power cut may have come before
    systemctl daemon-reload
    begin=$(uptime_s) known='' since=$begin
    while [ $(($(uptime_s) - begin)) -lt "$limit" ]; do
        now=$(systemctl show maillages-edge -p ActiveState -p MainPID | sort | tr '\n' ' ')
        [ "$now" = "$known" ] || { known=$now since=$(uptime_s); }
        case $now in
        "ActiveState=active "*)
            if [ $(($(uptime_s) - since)) -ge "$steady" ]; then
                echo "healthy $new" >"$base/verdict"
                rm -f "$base/trial"
                return 0
            fi
            ;;
        esac
        sleep 1
    done
    point "$base/current" "$old"
    units "$old"
    sync -f "$base"
    systemctl daemon-reload
    systemctl restart --no-block maillages-edge
    echo "back $old: $new was not healthy within $limit s" >"$base/verdict"
    rm -f "$base/trial"
}

main() {
    root='' python=python3 downgrade='' check='' judging='' steady=60 limit=300
    file=$0
    while [ $# -gt 0 ]; do
        case $1 in
        --root) root=${2%/}; shift ;;
        --python) python=$2; shift ;;
        --downgrade) downgrade=yes ;;
        --check) check=yes ;;
        --judge) judging=yes ;;
        --steady) steady=$2; shift ;;
        --limit) limit=$2; shift ;;
        --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
        esac
        shift
    done
    base=$root/opt/maillages
    if [ "$judging" ]; then judge "$steady" "$limit"; exit 0; fi
    [ "$root" ] || [ "$(id -u)" = 0 ] || refuse "only root can install" "sudo sh $file"
    mkdir -p "$base"
    exec 9>"$base/.lock"
    flock -n 9 || refuse "another installation runs" "wait for its end"
    work=$base/.work
    rm -rf "$work"
    mkdir "$work"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    verify "$file" "$work"
    if [ "$check" ]; then say "signed by $key"; exit 0; fi
    [ ! -f "$base/trial" ] || refuse "the last upgrade is still on trial" "wait five minutes; journalctl -u maillages-trial"
    tail -n "+$LINES" "$work/body" | tar -x -C "$work" || refuse "the archive cannot be unpacked" "df -h $base; copy the file again"
    rm -f "$work/body"
    manifest=$work/manifest
    release=$(field "$manifest" release) version=$(field "$manifest" version)
    build=$(field "$manifest" build) arch=$(field "$manifest" arch)
    current=$(readlink "$base/current" 2>/dev/null || true)

    [ "$(uname -m)" = "$arch" ] || [ "$(dpkg --print-architecture 2>/dev/null)/$arch" = armhf/armv7l ] ||
        refuse "this machine is $(uname -m), the bundle is for $arch" "a bundle made with --arch for this machine"
    command -v "$python" >/dev/null || refuse "$python is not installed" "apt install python3"
    series=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -f "$work/requirements-$series.txt" ] ||
        refuse "$python is Python $series, the bundle has $(field "$manifest" python)" "a bundle made with --python $series"
    if [ "$current" ]; then
        have=$base/$current/manifest
        if [ "$build" -lt "$(field "$have" build)" ] ||
            [ "$(printf '%s\n' "$version" "$(field "$have" version)" | sort -V | head -n 1)" != "$(field "$have" version)" ]; then
            [ "$downgrade" ] || refuse "$release is older than $current, which is installed" \
                "a newer bundle; on purpose, at the gateway: sudo sh FILE --downgrade"
            [ -t 0 ] || refuse "--downgrade needs a person at a terminal" "type the command by hand"
            printf '  %s is installed. Type %s to go back to it: ' "$current" "$release"
            read -r typed
            [ "$typed" = "$release" ] || refuse "that is not it" "the same command again"
        fi
    fi

    target=$base/$release
    if [ ! -f "$target/complete" ]; then
        # Beside the running version: nothing points here before it is complete.
        rm -rf "$target"
        "$python" -m venv --without-pip "$target"
        PIP_NO_INDEX=1 PIP_CONFIG_FILE=/dev/null "$target/bin/python" "$(echo "$work"/wheels/pip-*.whl)/pip" install --quiet \
            --disable-pip-version-check --no-index --no-deps --require-hashes --find-links "$work/wheels" \
            -r "$work/requirements-$series.txt" ||
            refuse "the packages cannot be installed (above)" "df -h $base; copy the file again"
        mkdir -p "$target/share"
        cp -r "$work/systemd" "$work/doc" "$target/share/"
        cp "$manifest" "$target/manifest"
        "$target/bin/maillages-edge" --help >/dev/null || refuse "$release does not run here" "send this text to the administrator"
        sync -f "$base"
        : >"$target/complete"
    fi
    if [ -f "$root/etc/maillages/edge.toml" ]; then
        "$target/bin/maillages-edge" check "$root/etc/maillages/edge.toml" >&2 ||
            refuse "$release does not take the configuration of this gateway (above)" "mend edge.toml, then the same command"
    fi
    say "package        $target"

    trial=''
    if [ "$current" ] && [ "$current" != "$release" ] && managed && systemctl is-active --quiet maillages-edge; then
        trial=yes
        rm -f "$base/verdict"
        point "$base/previous" "$current"
        printf 'new=%s\nold=%s\n' "$release" "$current" >"$base/trial.new"
        sync -f "$base"
        mv "$base/trial.new" "$base/trial"
    elif [ "$current" ] && [ "$current" != "$release" ]; then
        point "$base/previous" "$current"
    fi
    sync -f "$base"
    point "$base/current" "$release"
    sync -f "$base"
    [ -f "$base/signer" ] || { printf '%s\n' "$key" >"$base/signer.new"; mv "$base/signer.new" "$base/signer"; }

    # Rules are reached through `current` too. Relative links, which also hold below --root.
    at=opt/maillages/current/share/systemd
    point "$base/bin" current/bin
    point "$base/share" current/share
    link ../../../opt/maillages/bin/maillages-edge "$root/usr/local/bin/maillages-edge"
    units "$release"
    link "../../../$at/udev/60-maillages.rules" "$root/etc/udev/rules.d/60-maillages.rules"
    for kind in sysusers.d tmpfiles.d; do link "../../$at/$kind/maillages.conf" "$root/etc/$kind/maillages.conf"; done
    link "../../../$at/journald.conf.d/maillages.conf" "$root/etc/systemd/journald.conf.d/maillages.conf"
    if [ "$(id -u)" = 0 ]; then
        systemd-sysusers ${root:+"--root=$root"}
        systemd-tmpfiles --create ${root:+"--root=$root"} --prefix=/etc/maillages
    fi
    say "links          $base/bin, units, udev, sysusers, tmpfiles, journald"
    join=''
    for sealed in "$work"/join/*.join; do
        [ -f "$sealed" ] || continue
        mkdir -p "$root/etc/maillages"
        join=$root/etc/maillages/$(basename "$sealed")
        (umask 077; cp "$sealed" "$join")
    done

    if managed; then
        systemctl daemon-reload
        systemctl enable --quiet maillages-trial
        systemctl enable --quiet --now maillages-nightly.timer
        [ "$root" ] || { udevadm control --reload; udevadm trigger --subsystem-match=tty --subsystem-match=gpio; }
        if [ "$trial" ]; then
            systemctl restart --no-block maillages-edge
            systemctl restart --no-block maillages-trial
            say "on trial       $release; $current comes back if it is not healthy within $limit s"
            while [ -f "$base/trial" ]; do sleep 1; done
            case $(cat "$base/verdict") in
            healthy*) say "healthy        $release" ;;
            *)
                say "not healthy    $(cat "$base/verdict")"
                exit 1
                ;;
            esac
        fi
    else
        say "no systemd runs here: nothing was started, and nothing can be judged"
    fi
    for old in "$base"/*/complete; do
        old=${old%/complete}
        case ${old##*/} in
        "$release" | "$(readlink "$base/previous" 2>/dev/null)" | current | previous) ;;
        *) rm -rf "$old" ;;
        esac
    done
    [ "$current" ] || say "signer         $key: compare it with the administrator's"
    printf '%s is installed.\n' "$release"
    [ "$join" ] && printf 'Next: sudo maillages-edge join %s\n' "$join"
    exit 0
}

main "$@"
exit 0
}
