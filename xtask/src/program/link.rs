//! From the program's bitcode to the file that the chain loads: lowering and optimising in turns, then the link.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{lower, target};

/// LLVM's optimiser and linker of modules.
pub const OPT: &str = "opt-22";
/// LLVM's tool that joins modules.
pub const LLVM_LINK: &str = "llvm-link-22";
/// The back end: from bitcode to SBPF.
pub const SBPF_LINKER: &str = "sbpf-linker";
/// The chain reads and writes at any address. Without this LLVM takes every value that is not known to be aligned (all
/// addresses and packed fields) apart into bytes: programs come out two thirds larger.
const FEATURES: &str = "+allows-misaligned-mem-access";
/// Bytes of stack a function may use on chain.
const FRAME: u32 = 4096;
/// Every known program settles after three rounds.
const ROUNDS: usize = 10;
/// What makes the lowered text small again. No inlining: rustc's own optimiser has done that, and functions that it left
/// apart (such as Anchor's wrapper of each instruction) would share one stack frame.
const FIRST_PASSES: &str = "function(lower-atomic,sroa,early-cse,instcombine<no-verify-fixpoint>,simplifycfg,gvn,\
                            instcombine<no-verify-fixpoint>,simplifycfg,dse,dce)";
const PASSES: &str = "function(sroa,simplifycfg,dce)";
/// The memory functions come from calls that the back end itself makes, so they must outlive the last optimisation.
const EXPORTS: &str = "entrypoint,memcpy,memmove,memset,memcmp";

/// Lowers and links a program to `output`; `work` keeps what lies between.
pub fn link(compiled: &target::Compiled, work: &Path, output: &Path) -> Result<()> {
    ensure!(
        fs::metadata(&compiled.bitcode)?.len() > 0,
        "{} is empty: the program was not compiled to a single bitcode file",
        compiled.bitcode.display()
    );
    let lowered = lower_until_settled(&compiled.bitcode, work)?;
    let helpers = work.join("helpers.bc");
    target::compile_helpers(compiled, &helpers)?;
    let whole = work.join("program.bc");
    let mut command = tool(LLVM_LINK);
    run(command.arg(&lowered).arg(&helpers).arg("-o").arg(&whole))?;
    back_end(&whole, output)
}

fn lower_until_settled(bitcode: &Path, work: &Path) -> Result<PathBuf> {
    let file = |name: String| work.join(name);
    let mut current = file("in.ll".into());
    // Without names, values are numbered in order, and nothing could be put between them.
    let mut command = tool(OPT);
    run(command.args(["-S", "-passes=instnamer"]).arg(bitcode).arg("-o").arg(&current))?;
    for round in 0..ROUNDS {
        let (ir, rewritten) = lower::rewrite(&fs::read_to_string(&current)?, round);
        if rewritten == 0 && round > 0 {
            lower::refuse(&ir, &lower::HELPERS.map(|(name, _)| name))?;
            return Ok(current);
        }
        let (from, to) = (file(format!("{round}.lowered.ll")), file(format!("{round}.optimised.ll")));
        fs::write(&from, &ir)?;
        let passes = if round == 0 { FIRST_PASSES } else { PASSES };
        let mut command = tool(OPT);
        command
            .args(["-S", "-mtriple=bpfel", "-internalize-public-api-list=entrypoint"])
            .arg(format!("-passes=internalize,globaldce,{passes},instnamer"))
            .arg(&from)
            .arg("-o")
            .arg(&to);
        run(&mut command)?;
        current = to;
    }
    bail!("the lowering has not settled after {ROUNDS} rounds; see {}", work.display())
}

fn back_end(bitcode: &Path, output: &Path) -> Result<()> {
    let mut command = tool(SBPF_LINKER);
    command
        .args([
            "--arch",
            "v0",
            "--cpu",
            "v2",
            "--cpu-features",
            FEATURES,
            "--export",
            EXPORTS,
            "-O",
            "1",
            "--deploy",
            "false",
        ])
        .arg(format!("--llvm-args=--bpf-stack-size={FRAME}"))
        .arg("-o")
        .arg(output)
        .arg(bitcode);
    let result = command.output().with_context(|| format!("cannot start {SBPF_LINKER}: run `cargo xtask setup`"))?;
    if result.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&result.stderr);
    let refusals = refusals(&messages);
    ensure!(refusals.is_empty(), "{}", refusals.into_iter().collect::<Vec<_>>().join("\n"));
    bail!("{SBPF_LINKER} failed ({}):\n{}", result.status, messages.trim_end())
}

/// The back end's refusals, one line a function.
fn refusals(messages: &str) -> BTreeSet<String> {
    messages
        .lines()
        .filter_map(|line| line.split_once("in function ")?.1.split_once(' '))
        .map(|(function, rest)| {
            let reason = rest.rsplit_once("): ").map_or(rest, |(_, reason)| reason);
            let function = lower::readable(function);
            if reason.contains("stack limit is exceeded") {
                format!(
                    "function {function} needs more than the {FRAME} bytes of stack that the chain gives a function: keep big \
                     values in account data, and put parts of it into functions of their own with #[inline(never)]"
                )
            } else {
                format!("function {function}: {reason}")
            }
        })
        .collect()
}

/// A tool from PATH, or from where cargo installs.
pub fn tool(name: &str) -> Command {
    let installed = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin").join(name));
    match installed {
        Some(path) if path.is_file() => Command::new(path),
        _ => Command::new(name),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}: run `cargo xtask setup`"))?;
    ensure!(
        output.status.success(),
        "{name} failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

#[cfg(test)]
#[path = "../../sbf/helpers.rs"]
mod helpers;

#[cfg(test)]
mod tests {
    use super::{helpers, refusals};

    #[test]
    fn the_back_ends_refusals_name_functions() {
        let messages = "ERROR llvm: <unknown>:0:0: in function _ZN4name3big17h0123456789abcdefE i64 (i64): Looks like the BPF \
                        stack limit is exceeded. Please\n\nERROR llvm: <unknown>:0:0: in function f void (ptr): too many arguments\n";
        let got: Vec<String> = refusals(messages).into_iter().collect();
        assert_eq!(got.len(), 2, "{got:?}");
        assert_eq!(got[0], "function f: too many arguments");
        assert!(got[1].starts_with("function name::big needs more than the 4096 bytes"), "{got:?}");
    }

    /// Operands around every power of two.
    fn edges() -> Vec<u128> {
        let near = |bits: u32| [-1, 0, 1].map(|d| (1_u128 << bits).wrapping_add_signed(d));
        (0..128).step_by(5).chain([31, 32, 33, 63, 64, 65, 127]).flat_map(near).chain([u128::MAX, u128::MAX / 3]).collect()
    }

    #[test]
    fn helpers_multiply_and_divide() {
        for a in edges() {
            for b in edges() {
                let (x, y) = (a as u64, b as u64);
                assert_eq!(helpers::__sbf_umulh(x, y), ((u128::from(x) * u128::from(y)) >> 64) as u64, "{x} * {y}");
                if b == 0 {
                    continue;
                }
                let mut out = [0_u64; 4];
                // SAFETY: four words, and the divisor is not zero.
                unsafe { helpers::__sbf_udivmod(out.as_mut_ptr(), a as u64, (a >> 64) as u64, b as u64, (b >> 64) as u64) };
                let wide = |at: usize| u128::from(out[at]) | u128::from(out[at + 1]) << 64;
                assert_eq!((wide(0), wide(2)), (a / b, a % b), "{a} / {b}");
            }
        }
    }
}
