#!/usr/bin/env bash
# A persistent TUN device for tcpstack on this host, with the kernel's addresses on it. Each action may be repeated.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

readonly DEFAULT4=10.9.0.1/24 DEFAULT6=fd09::1/64   # with these, the stack behind it is 10.9.0.2 and fd09::2
readonly DEFAULT_QUEUE=5000 KERNELS_QUEUE=500       # packets; several downloads at once overflow the kernel's
readonly NODE=/dev/net/tun

usage() {
  cat <<'END'
usage: ./setup_tun.sh up|down|status [NAME] [options of up]

  up      make the TUN device NAME (tun0), or bring one that is there into shape, and say what to do next
  down    delete it, with its addresses and routes; nothing else was made
  status  say what is there; exit 0 when it is up, 1 when not

options of up:
  --user U          who may attach to it (root)
  --address CIDR    the kernel's address on it; once for IPv4 (10.9.0.1/24) and once for IPv6 (fd09::1/64)
  --mtu N           its MTU in octets (1500)
  --txqueuelen N    how many packets may wait in it (5000)
END
}

die() { printf 'setup_tun.sh: %s\n' "$*" >&2; exit 1; }
misuse() { printf "setup_tun.sh: %s (see './setup_tun.sh --help')\n" "$*" >&2; exit 2; }

main() {
  action=${1-} name= user= mtu= queue= address4= address6=
  [[ $action == -h || $action == --help ]] && { usage; exit 0; }
  [[ $action == up || $action == down || $action == status ]] || misuse "say up, down or status, not '$action'"
  shift
  while (($#)); do
    case $1 in
      --user|--mtu|--txqueuelen|--address)
        (($# > 1)) || misuse "$1 needs a value"
        [[ $action == up ]] || misuse "$1 goes with up only"
        take_option "$1" "$2"
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

take_option() {
  case $1 in
    --user) user=$2 ;;
    --mtu) mtu=$2 ;;
    --txqueuelen) queue=$2 ;;
    --address)
      if [[ $2 == *:* ]]; then
        [[ -z $address6 ]] || misuse "one IPv6 --address only, not '$address6' and '$2'"
        address6=$2
      else
        [[ -z $address4 ]] || misuse "one IPv4 --address only, not '$address4' and '$2'"
        address4=$2
      fi ;;
  esac
}

up() {
  check_options
  need_root
  [[ -c $NODE ]] || die "there is no $NODE: load its driver with 'modprobe tun'"
  local there=
  if exists; then
    there=yes
    check_existing
  fi
  address4=$(choose "${address4:-}" "$DEFAULT4" -4) || exit 1
  address6=$(choose "${address6:-}" "$DEFAULT6" -6) || exit 1
  if [[ -z $there ]]; then
    # Without an owner, whoever may open /dev/net/tun may attach.
    ip tuntap add dev "$name" mode tun user "${user:-root}" || die "$name could not be made"
    trap 'ip link delete dev "$name"' EXIT  # half a device is worse than none
  fi
  configure
  trap - EXIT
  status
  tell_what_next
}

check_options() {
  [[ -z $mtu ]] || { [[ $mtu =~ ^[1-9][0-9]{3,4}$ ]] && ((mtu >= 1280 && mtu <= 65535)); } ||
    die "'$mtu' can't be the MTU: use 1280 (the least that IPv6 works with) to 65535"
  [[ -z $queue || $queue =~ ^[1-9][0-9]{0,6}$ ]] || die "'$queue' can't be the queue's length: use 1 to 9999999 packets"
  [[ -z $address4 ]] || stack_address4 "$address4" >/dev/null || die "'$address4' is not for this: give a host's IPv4" \
    "address with its prefix length, 8 to 30, as in $DEFAULT4"
  [[ -z $address6 ]] || stack_address6 "$address6" >/dev/null || die "'$address6' is not for this: give a host's IPv6" \
    "address with its prefix length, 8 to 126, as in $DEFAULT6"
  if [[ -n $user ]]; then
    id -u -- "$user" >/dev/null 2>&1 || die "there is no user '$user' on this machine"
    user=$(id -un -- "$user")  # it may have been a number
  fi
}

# Refuse what can't be done to the device that is there already.
check_existing() {
  [[ $(details) == *" persist on "* ]] || die "$name belongs to a running program: stop that, or choose another name"
  [[ -z $user || $(owner) == "$user" ]] ||
    die "$name belongs to $(owner): run './setup_tun.sh down $name' first to give it to $user"
  [[ -z $mtu || $(details) == *" mtu $mtu "* || $(details) != *LOWER_UP* ]] ||
    die "$name is in use by $(users), which would not learn of another MTU: stop that first"
}

# Print the address that the device is to have: what was asked for, or what it has, or the default. Die where the
# device has another one, or where the new one is in use.
choose() {
  local asked=$1 wanted=${1:-$2} family=$3 present
  if details >/dev/null 2>&1; then
    present=$(ip "$family" -oneline address show dev "$name" scope global | awk '{print $4; exit}')
    if [[ -n $present ]]; then
      [[ -z $asked || -n $(ip "$family" -oneline address show dev "$name" to "${asked%/*}" | grep -F "/${asked#*/} ") ]] ||
        die "$name has $present: run './setup_tun.sh down $name' first to give it $asked"
      echo "${asked:-$present}"
      return
    fi
  fi
  check_free "$wanted" "$family"
  echo "$wanted"
}

# Die where the address's network is that of another interface, or is routed elsewhere. Default routes don't count,
# nor do those of VPNs that stand for them (0.0.0.0/1).
check_free() {
  local address=$1 family=$2 taken query
  taken=$(ip "$family" -oneline address show to "$address" | awk -v own="$name" '$2 != own {print $2}' | sort -u)
  [[ -z $taken ]] || die "the network of $address is in use on ${taken//$'\n'/, }: take that down first, or give" \
    "another --address"
  for query in root match; do
    taken=$(ip "$family" -oneline route show table all "$query" "$address" | awk -v own="$name" '
      {for (i = 1; i < NF; i++) if ($i == "dev" && $(i + 1) == own) next}
      $1 == "default" || $2 == "default" || $1 ~ /\/[0-3]$/ || $2 ~ /\/[0-3]$/ {next}
      {sub(/ (table|proto|scope|metric) .*/, ""); sub(/ +$/, ""); print; exit}')
    [[ -z $taken ]] || die "the network of $address is routed elsewhere ($taken): take that route away first, or give" \
      "another --address"
  done
}

configure() {
  # Nobody on this link is a router: no solicitations, and no address that we did not give. Set before it is up.
  local conf=/proc/sys/net/ipv6/conf/$name
  quietly 0 "$conf/router_solicitations"
  quietly 0 "$conf/accept_ra"
  quietly 1 "$conf/addr_gen_mode"
  [[ -n $queue || $(details) != *" qlen $KERNELS_QUEUE"[\\\ ]* ]] || queue=$DEFAULT_QUEUE
  ip link set dev "$name" ${queue:+txqueuelen "$queue"} ${mtu:+mtu "$mtu"}
  ip address replace "$address4" dev "$name"
  if [[ -r $conf/disable_ipv6 && $(<"$conf/disable_ipv6") == 0 ]]; then
    ip -6 address replace "$address6" dev "$name" nodad
  else
    echo "setup_tun.sh: IPv6 is off on this machine, so $name has IPv4 only" >&2
    address6=
  fi
  ip link set dev "$name" up
}

quietly() { { echo "$1" > "$2"; } 2>/dev/null || true; }  # read-only in some containers: then there is some noise

tell_what_next() {
  local stack4 serve="tcpstack serve --tun $name" as
  as=$(owner)
  stack4=$(stack_address4 "$address4")
  if [[ $address4 != "$DEFAULT4" || $address6 != "$DEFAULT6" ]]; then
    serve+=" --address $stack4"
    [[ -z $address6 ]] || serve+=" --address $(stack_address6 "$address6")"
  fi
  may_open "$as" || echo "first: sudo chmod 0666 $NODE    (its mode is $(stat -c %a "$NODE"), so $as may not open it)"
  [[ $as == root ]] && as= || as="    (as $as)"
  echo "next:  $serve$as"
  echo "       curl http://${stack4%/*}/    (in another terminal)"
  echo "       sudo ./setup_tun.sh down $name    (when done)"
}

# Whether this user may open /dev/net/tun, by its mode.
may_open() {
  local mode bits
  mode=$((8#$(stat -c %a "$NODE")))
  bits=$((mode & 7))
  [[ " $(id -Gn -- "$1" 2>/dev/null) " != *" $(stat -c %G "$NODE") "* ]] || bits=$((mode >> 3 & 7))
  [[ $(stat -c %U "$NODE") != "$1" ]] || bits=$((mode >> 6 & 7))
  [[ $1 == root || $1 == anybody ]] || (((bits & 6) == 6))
}

# Print the stack's address beside the kernel's: the next one, or the one before. Fails where that is no host's address.
stack_address4() {
  [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})/([0-9]{1,2})$ ]] || return 1
  local -a octets=("${BASH_REMATCH[@]:1:4}")
  local length=$((10#${BASH_REMATCH[5]})) number=0 octet hosts low
  for octet in "${octets[@]}"; do
    ((10#$octet <= 255)) || return 1
    number=$((number << 8 | 10#$octet))
  done
  ((10#${octets[0]} > 0 && 10#${octets[0]} < 224 && 10#${octets[0]} != 127 && length >= 8 && length <= 30)) || return 1
  hosts=$(((1 << (32 - length)) - 1))
  low=$((number & hosts))
  ((low != 0 && low != hosts)) || return 1
  number=$((low + 1 < hosts ? number + 1 : number - 1))
  echo "$((number >> 24 & 255)).$((number >> 16 & 255)).$((number >> 8 & 255)).$((number & 255))/$length"
}

stack_address6() {
  local host=${1%/*} length=${1##*/} last
  [[ $1 =~ ^[0-9A-Fa-f:]+/[0-9]{1,3}$ && ! $host =~ ^[fF][eEfF]|^::1$|::$ ]] || return 1
  ((10#$length >= 8 && 10#$length <= 126)) && ip -6 address show to "$1" >/dev/null 2>&1 || return 1
  last=$((16#0${host##*:}))
  # The last two bits are the host's with every length, so the neighbour by these is in the same network.
  printf '%s:%x/%s\n' "${host%:*}" $(((last & 3) == 3 ? last - 1 : last + 1)) "$length"
}

down() {
  if ! exists; then
    echo "$name is not there"
    return
  fi
  need_root
  local problem
  # Not `ip link delete`, which would take the device from a program that uses it.
  problem=$(ip tuntap delete dev "$name" mode tun 2>&1) || {
    [[ $problem != *busy* ]] || die "$name is in use by $(users): stop that first"
    die "$name could not be deleted ($problem)"
  }
  echo "$name is gone"
}

# The programs that are attached, as far as they are in this network namespace: a tun0 elsewhere looks the same.
users() {
  local file process program here found=()
  here=$(readlink /proc/self/ns/net)
  for file in $(grep -lsxF "iff:"$'\t'"$name" /proc/[0-9]*/fdinfo/* || true); do
    process=${file#/proc/}
    process=${process%%/*}
    [[ $(readlink "/proc/$process/ns/net") == "$here" ]] && program=$(<"/proc/$process/comm") || continue
    found+=("$program (process $process)")
  done
  ((${#found[@]})) || found=("a program")
  printf '%s' "${found[0]}"
  ((${#found[@]} < 2)) || printf ', %s' "${found[@]:1}"
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
  [[ $(details) =~ \ user\ ([^ ]+) ]] && echo "${BASH_REMATCH[1]}" || echo anybody
}

# CAP_NET_ADMIN is bit 12 of the effective capabilities: what counts is that, and not the uid.
need_root() {
  local effective
  effective=$(awk '/^CapEff:/ {print $2}' /proc/self/status)
  (((16#$effective >> 12) & 1)) || die "'$action' takes root: run it with sudo"
}

main "$@"
