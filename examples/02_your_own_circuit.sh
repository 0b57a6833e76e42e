#!/usr/bin/env bash
# 2. A circuit of your own: mistakes are shown in place, and the form is canonical.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/energy.hec" <<'HEC'
// Kinetic energy of eight bodies of known mass, from secret velocities.
circuit energy(mass: public real[8] in [0, 10], v: secret real[8] in [-1, 1]) -> e: real {
    return 0.5*dot(mass, speed*speed);
}
HEC

# `speed` is no name here: exit status 2, with file, line, column and a help line.
if $HECC compile "$work/energy.hec"; then
    exit 1
elif [ $? -ne 2 ]; then
    exit 1
fi

sed -i.old 's/speed/v/g' "$work/energy.hec"
$HECC fmt "$work/energy.hec"
cat "$work/energy.hec"

# Public inputs are known to whoever evaluates; secret ones are encrypted.
$HECC run "$work/energy.hec" \
    --input 'mass=[1, 2, 3, 4, 5, 6, 7, 8]' \
    --input 'v=[0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8]'
