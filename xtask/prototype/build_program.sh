#!/usr/bin/env bash
# Prototype: build_program.sh <program crate dir>  -> target/sbf-solana-solana/release/lib<name>.so
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
std=${SBF_STD:-$HOME/.cache/sbf-std}            # a patched copy of the library folder of the rust-web-src package
if [ ! -d "$std/std" ]; then
  mkdir -p "$(dirname "$std")" && cp -r /usr/lib/rustlib/src/rust/library "$std" && python3 "$here/patch_std.py" "$std"
fi
export RUSTC_BOOTSTRAP=1 RUSTC_BOOTSTRAP_SYNTHETIC_TARGET=1 RUSTC=/usr/bin/rustc __CARGO_TESTS_ONLY_SRC_ROOT=$std
export CARGO_TARGET_SBF_SOLANA_SOLANA_RUSTFLAGS="-Clinker=$here/sbf_link.py -Zunstable-options -Cpanic=immediate-abort -Crelocation-model=static -Ctarget-cpu=v2"
export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
cd "$1"
export CARGO_TARGET_DIR="${SBF_TARGET_DIR:?}"
exec cargo rustc --release --lib --crate-type cdylib -Zjson-target-spec -Zbuild-std=std,panic_abort --target "$here/sbf-solana-solana.json"
