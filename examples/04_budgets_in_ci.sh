#!/usr/bin/env bash
# 4. A budget that a change must not exceed: `hecc check` in continuous integration.
set -euo pipefail
cd "$(dirname "$0")/.."
HECC=${HECC:-cargo run --quiet --release --}

# Within the budget: exit status 0.
$HECC check circuits/quartic.hec circuits/dot_product.hec --max-depth 2

# Exceeded: exit status 1, and the measure is named on stderr.
status=0
$HECC check circuits/quartic.hec --max-depth 1 || status=$?
[ "$status" -eq 1 ]

# As written the quartic needs depth 3; the report has both.
$HECC compile circuits/quartic.hec --format json
