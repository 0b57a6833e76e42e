#!/usr/bin/env bash
# 6. Where does precision go? Both back-ends side by side, compared after each operation.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}

# Inputs that are not given are drawn from their declared ranges.
$HECC run circuits/polynomial.hec --random --seed 1 --backend lockstep

# A tolerance that no encryption meets: the first operation that exceeds it is shown in its source
# line, and the exit status is 1.
status=0
$HECC run circuits/polynomial.hec --random --seed 1 --backend lockstep --tolerance 1e-12 || status=$?
[ "$status" -eq 1 ]

# What is executed, in order, and when a ciphertext is freed.
$HECC compile circuits/polynomial.hec --emit plan
