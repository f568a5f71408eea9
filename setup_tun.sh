#!/usr/bin/env bash
# A persistent TUN device for tcpstack on this host, with the kernel's addresses on it. Each action may be repeated.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

readonly ADDRESS4=10.9.0.1/24 ADDRESS6=fd09::1/64   # the stack behind it is 10.9.0.2 and fd09::2
readonly QUEUE=5000                                 # packets; several downloads at once overflow the kernel's 500

usage() {
  cat <<'EOF'
usage: ./setup_tun.sh up|down|status [NAME] [--user U] [--mtu N]

  up      make the TUN device NAME (tun0), which user U (root) may attach to, with an MTU of N octets (1500);
          the kernel's side is 10.9.0.1/24 and fd09::1/64
  down    delete it
  status  say what is there; exit 0 when it is up, 1 when not
EOF
}

die() { printf 'setup_tun.sh: %s\n' "$*" >&2; exit 1; }
misuse() { printf "setup_tun.sh: %s (see './setup_tun.sh --help')\n" "$*" >&2; exit 2; }

main() {
  action=${1-} name= user= mtu=
  [[ $action == -h || $action == --help ]] && { usage; exit 0; }
  [[ $action == up || $action == down || $action == status ]] || misuse "say up, down or status, not '$action'"
  shift
  while (($#)); do
    case $1 in
      --user|--mtu)
        (($# > 1)) || misuse "$1 needs a value"
        [[ $action == up ]] || misuse "$1 goes with up only"
        [[ $1 == --user ]] && user=$2 || mtu=$2
        shift 2 ;;
      -h|--help) usage; exit 0 ;;
      -*) misuse "there is no option $1" ;;
      *) [[ -z $name ]] || misuse "one name only, not '$name' and '$1'"
         name=$1; shift ;;
    esac
  done
  name=${name:-tun0}
  [[ $name =~ ^[^/:[:space:]%]{1,15}$ && $name != . && $name != .. ]] ||
    die "'$name' can't name an interface: use 1 to 15 characters without '/', ':', '%' or spaces"
  command -v ip >/dev/null || die "the program ip is missing: install the package iproute2"
  "$action"
}

up() {
  [[ -z $mtu ]] || { [[ $mtu =~ ^[1-9][0-9]{3,4}$ ]] && ((mtu >= 1280 && mtu <= 65535)); } ||
    die "'$mtu' can't be the MTU: use 1280 (the least that IPv6 works with) to 65535"
  if [[ -n $user ]]; then
    id -u -- "$user" >/dev/null 2>&1 || die "there is no user '$user' on this machine"
    user=$(id -un -- "$user")  # it may have been a number
  fi
  need_root
  [[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: load its driver with 'modprobe tun'"
  if exists; then
    [[ $(details) == *" persist on "* ]] || die "$name belongs to a running program: stop that, or choose another name"
    [[ -z $user || $(owner) == "$user" ]] ||
      die "$name belongs to $(owner): run './setup_tun.sh down $name' first to give it to $user"
  else
    local address taken
    for address in "$ADDRESS4" "$ADDRESS6"; do
      taken=$(ip -oneline address show to "$address" | awk '{print $2}')
      [[ -z $taken ]] || die "the network of $address is in use on ${taken//$'\n'/, }: take that down first"
    done
    ip tuntap add dev "$name" mode tun ${user:+user "$user"} || die "$name could not be made"
    trap 'ip link delete dev "$name"' EXIT  # half a device is worse than none
  fi
  configure
  trap - EXIT
  status
  echo "next:  tcpstack serve --tun $name${user:+    (as $user)}"
}

configure() {
  # Nobody on this link is a router: no solicitations, and no address that we did not give. Set before it is up.
  local conf=/proc/sys/net/ipv6/conf/$name
  quietly 0 "$conf/router_solicitations"
  quietly 0 "$conf/accept_ra"
  quietly 1 "$conf/addr_gen_mode"
  ip link set dev "$name" txqueuelen "$QUEUE" ${mtu:+mtu "$mtu"}
  ip address replace "$ADDRESS4" dev "$name"
  if [[ -r $conf/disable_ipv6 && $(<"$conf/disable_ipv6") == 0 ]]; then
    ip -6 address replace "$ADDRESS6" dev "$name" nodad
  else
    echo "setup_tun.sh: IPv6 is off on this machine, so $name has IPv4 only" >&2
  fi
  ip link set dev "$name" up
}

quietly() { { echo "$1" > "$2"; } 2>/dev/null || true; }  # read-only in some containers: then there is some noise

down() {
  if ! exists; then
    echo "$name is not there"
    return
  fi
  need_root
  ip link delete dev "$name"
  echo "$name is gone"
}

status() {
  if ! exists; then
    echo "$name is not there; './setup_tun.sh up $name' makes it"
    exit 1
  fi
  local text addresses state=down use="no program attached"
  text=$(details)
  addresses=$(ip -oneline address show dev "$name" | awk '{printf "%s%s", separator, $4; separator = " and "}')
  [[ $text =~ [\<,]UP[\>,] ]] && state=up
  [[ $text == *LOWER_UP* ]] && use="a program attached"
  [[ $text =~ \ mtu\ ([0-9]+)\ .*\ qlen\ ([0-9]+) ]]
  echo "$name is $state: ${addresses:-no address}, MTU ${BASH_REMATCH[1]}, queue ${BASH_REMATCH[2]}," \
    "owner $(owner), $use"
  [[ $state == up ]] || exit 1
}

details() { ip -details -oneline link show dev "$name"; }

# Whether NAME is there as a TUN device with one queue; dies where something else has the name.
exists() {
  local text
  text=$(details 2>/dev/null) || return 1
  [[ $text == *" tun type tun "* && $text != *" multi_queue "* ]] ||
    die "$name is there already, but not as a TUN device with one queue: choose another name"
}

owner() {
  [[ $(details) =~ \ user\ ([^ ]+) ]] && echo "${BASH_REMATCH[1]}" || echo root
}

# CAP_NET_ADMIN is bit 12 of the effective capabilities: what counts is that, and not the uid.
need_root() {
  local effective
  effective=$(awk '/^CapEff:/ {print $2}' /proc/self/status)
  (((16#$effective >> 12) & 1)) || die "'$action' takes root: run it with sudo"
}

main "$@"
