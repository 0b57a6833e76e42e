#!/usr/bin/env bash
# 1. From a circuit to a depth report and an encrypted result.
#
# HECC is how to call hecc; from a clean clone this builds it first.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}

# What the circuit costs, as written and after optimization.
$HECC compile circuits/quartic.hec

# Keys, encryption, evaluation, decryption, and the plain result beside it.
$HECC run circuits/quartic.hec --input x=@circuits/data/x1024.json
