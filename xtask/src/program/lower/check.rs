//! The last look before the back end: what it could not compile, or would compile wrongly, is refused by name.

use std::sync::LazyLock;

use anyhow::{Result, bail};
use regex::Regex;

use super::syntax::{call, definition, integer_width, pattern};

/// Functions a program may leave to the runtime, besides its `sol_` system calls: memory functions come with the helpers.
const UNDEFINED_ALLOWED: [&str; 5] = ["abort", "memcpy", "memmove", "memset", "memcmp"];

static WIDE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r" = (mul|udiv|urem|sdiv|srem|shl|lshr|ashr) (?:nuw |nsw |exact )*i(\d+) [^\s,]+, ([^\s,]+)"));
static ATOMIC: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s+(?:%\S+ = )?(cmpxchg|atomicrmw|fence|load atomic|store atomic) "));
static FLOAT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r" = (fadd|fsub|fmul|fdiv|frem|fneg|fcmp|uitofp|sitofp|fptoui|fptosi|fpext|fptrunc) "));
static MUTABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^(@(?:"[^"]*"|[-\w.$]+)) = (?:[^"@]* )?global "#));

/// Fails if the module holds an instruction or a symbol that the chain lacks. `helpers` are the symbols that join later.
pub fn refuse(ir: &str, helpers: &[&str]) -> Result<()> {
    let mut function = "";
    for line in ir.lines() {
        if let Some(found) = definition(line) {
            function = found.name;
        }
        if let Some(found) = MUTABLE.captures(line).filter(|found| !found[1].starts_with("@llvm.")) {
            bail!("the static {} can be written, which programs on chain cannot have", readable(&found[1]));
        }
        if let Some(what) = unsupported(line) {
            bail!(
                "function {}: {what} is left after the lowering ({}). Write it in 64-bit integer arithmetic, or teach \
                 xtask/src/program/lower about it.",
                readable(function),
                line.trim()
            );
        }
        let Some(name) = line.strip_prefix("declare ").and_then(|l| l.split_once('@')).and_then(|(_, l)| l.split_once('('))
        else {
            continue;
        };
        let name = name.0.trim_matches('"');
        let known = name.starts_with("llvm.")
            || name.starts_with("sol_")
            || helpers.contains(&name)
            || UNDEFINED_ALLOWED.contains(&name);
        if !known {
            bail!("the program calls {}, which neither it nor the chain's runtime has", readable(name));
        }
    }
    Ok(())
}

fn unsupported(line: &str) -> Option<String> {
    if let Some(found) = WIDE.captures(line) {
        let (op, bits) = (&found[1], found[2].parse::<u64>().unwrap_or(u64::MAX));
        let variable = found[3].starts_with('%');
        let bad = match op {
            "sdiv" | "srem" => true,
            "shl" | "lshr" | "ashr" => bits > 64 && variable,
            _ => bits > 64,
        };
        return bad.then(|| format!("{bits}-bit `{op}`"));
    }
    if let Some(found) = ATOMIC.captures(line) {
        return Some(format!("the atomic `{}`", &found[1]));
    }
    if let Some(found) = FLOAT.captures(line) {
        return Some(format!("the floating-point `{}`", &found[1]));
    }
    let called = call(line)?;
    let bits = called.callee.split_once("mul.with.overflow.").and_then(|(_, ty)| integer_width(ty))?;
    (bits > 32).then(|| format!("a {bits}-bit multiplication with overflow"))
}

/// A symbol as its author would write it.
pub fn readable(symbol: &str) -> String {
    // Without the hash that tells versions of a crate apart.
    format!("{:#}", rustc_demangle::demangle(symbol.trim_start_matches('@').trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        let ir = format!("define void @_ZN4name3bad17h0123456789abcdefE() {{\n  {line}\n}}\n");
        refuse(&ir, &["__sbf_umulh"]).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn leftovers_are_named() {
        for line in [
            "%x = mul i256 %a, %b",
            "%x = sdiv i32 %a, %b",
            "%x = shl i128 %a, %b",
            "%x = fadd double %a, %b",
            "%x = atomicrmw add ptr %p, i64 1 monotonic, align 8",
            "%x = call { i50, i1 } @llvm.umul.with.overflow.i50(i50 %a, i50 %b)",
        ] {
            assert!(refusal(line).starts_with("function name::bad"), "{line}: {}", refusal(line));
        }
        for line in ["%x = shl i128 %a, 3", "%x = mul i64 %a, %b", "%x = call i64 @f(i64 1)"] {
            assert_eq!(refusal(line), "", "{line}");
        }
    }

    #[test]
    fn strangers_are_named() {
        assert!(refuse("declare i64 @__sbf_umulh(i64, i64)\ndeclare i64 @sol_log_(ptr, i64)\n", &["__sbf_umulh"]).is_ok());
        let error = refuse("declare void @pthread_create(ptr)\n", &[]).expect_err("not on chain");
        assert!(error.to_string().contains("pthread_create"), "{error}");
        let error = refuse("@COUNT = internal unnamed_addr global i64 0, align 8\n", &[]).expect_err("writable");
        assert!(error.to_string().contains("COUNT"), "{error}");
        assert!(refuse("@NAME = internal unnamed_addr constant [4 x i8] c\" global \"\n", &[]).is_ok());
    }
}
