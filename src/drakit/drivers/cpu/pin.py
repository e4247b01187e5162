"""The createRuntime hook that pins a container: a shell script, whole in the CDI file, OCI state on stdin.

A container may have several CPU devices, and each brings this hook. So what earlier hooks of the same
container gave is kept in a file of a folder on the host, named after its process, and each pins to all of it.
The container's own cpuset cgroup is used where it has one that may be written, which also holds what is
started in it later, and never one that it shares with the runtime; otherwise the CPU affinity of its
process, which its children inherit.

A host needs nothing for it but `sh` and `sed` (and `taskset` where containers have no cgroup), so the driver
may run in a container; and it runs with every container, so it starts no program where the shell will do.
"""

from __future__ import annotations

from pathlib import Path

from drakit.driver import Hook

_SECONDS = 10
_SCRIPT = r"""
PATH=/usr/sbin:/usr/bin:/sbin:/bin
folder=$1 cpus=$2

fail() {
  echo "cannot pin the container to CPUs $cpus: $1" >&2
  exit 1
}

# started: when process $1 was started, empty if it does not live; with its pid no other is the same.
ticks() {
  started= line= last=
  while IFS= read -r line; do last=$line; done <"/proc/$1/stat"
  set -- ${last##*")"}
  case ${1-} in ''|Z|X) ;; *) started=${20} ;; esac
} 2>/dev/null

# Whether the process may run on CPUs of $cpus alone.
is_pinned() {
  wanted=, allowed=
  while read -r key value; do
    if [ "$key" = Cpus_allowed_list: ]; then allowed=$value; fi
  done <"/proc/$pid/status"
  IFS=,
  for part in $cpus; do
    cpu=${part%-*}
    while [ "$cpu" -le "${part#*-}" ]; do wanted=$wanted$cpu, cpu=$((cpu + 1)); done
  done
  for part in $allowed; do
    cpu=${part%-*}
    while [ "$cpu" -le "${part#*-}" ]; do
      case $wanted in *,"$cpu",*) cpu=$((cpu + 1)) ;; *) unset IFS; return 1 ;; esac
    done
  done
  unset IFS
  [ -n "$allowed" ]
}

pin_cgroup() {
  ours=/
  while read -r line; do ours="$ours $line /"; done </proc/self/cgroup
  while IFS=: read -r number controllers path; do
    case $ours in *"/ $number:$controllers:$path /"*) continue ;; esac
    case $number,$controllers, in
      *,cpuset,*) set -- /sys/fs/cgroup/cpuset ;;
      0,*) set -- /sys/fs/cgroup /sys/fs/cgroup/unified ;;
      *) continue ;;
    esac
    for root; do
      file=$root$path/cpuset.cpus
      if [ -f "$file" ] && echo "$cpus" >"$file" && is_pinned; then return 0; fi
    done
  done <"/proc/$pid/cgroup"
  return 1
} 2>/dev/null

pid=$(sed -n 's/.*"pid"[[:space:]]*:[[:space:]]*\([0-9][0-9]*\).*/\1/p')
[ -n "$pid" ] || fail "no pid in the state on stdin"
[ -d "$folder" ] || mkdir -p -m 700 "$folder" || fail "no folder $folder"
for path in "$folder"/*-*; do
  name=${path##*/}
  ticks "${name%%-*}"
  if [ "$started" != "${name#*-}" ] && [ -e "$path" ]; then rm -f "$path"; fi
done
ticks "$pid"
[ -n "$started" ] || fail "its process $pid does not live"
file=$folder/$pid-$started
if [ -e "$file" ]; then read -r known <"$file" && cpus=$known,$cpus; fi
echo "$cpus" >"$file" || fail "$file cannot be written"
if ! pin_cgroup; then
  for task in "/proc/$pid/task"/*; do
    taskset -p -c "$cpus" "${task##*/}" >/dev/null || fail "no cpuset cgroup of its own, and taskset failed"
  done
fi
"""


def hook(folder: Path, cpus: str) -> Hook:
    """Pins to `cpus`, beside those of other hooks; `folder` is the host's, made if it is not there."""
    program = ["sh", "-c", _SCRIPT, "pin", str(folder), cpus]
    return Hook(hook_name="createRuntime", path="/bin/sh", args=program, timeout=_SECONDS)
