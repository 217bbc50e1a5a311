//! Integer arithmetic that BPF lacks, rewritten to 64-bit instructions and calls of the helpers in `xtask/sbf/helpers.rs`.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    function::Text,
    syntax::{Call, integer_width, pattern, value},
};

/// What the rewritten text may call; the helpers join it after the last optimisation, so that none can see into them and
/// turn them back into what they replace.
pub const HELPERS: [(&str, &str); 2] = [
    ("__sbf_umulh", "declare i64 @__sbf_umulh(i64, i64) nounwind willreturn memory(none)"),
    ("__sbf_udivmod", "declare void @__sbf_udivmod(ptr, i64, i64, i64, i64) nounwind willreturn memory(argmem: write)"),
];

static BINARY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^\s+(%\S+) = (mul|udiv|urem|sdiv|srem|shl|lshr|ashr) (?:nuw |nsw |exact )*i(\d+) ([^\s,]+), ([^\s,]+)(?:, !.*)?$",
    )
});

/// Two 64-bit halves of a 128-bit value: low, high.
type Limbs = (String, String);

/// Rewrites a binary instruction that BPF lacks; false leaves the line to the caller.
pub fn binary(text: &mut Text, line: &str) -> bool {
    let Some(parts) = BINARY.captures(line) else { return false };
    let (dst, op, a, b) = (&parts[1], &parts[2], &parts[4], &parts[5]);
    let Ok(bits) = parts[3].parse::<u64>() else { return false };
    match (op, bits) {
        ("sdiv" | "srem", 1..=64) => signed_division(text, dst, op, bits, a, b),
        ("shl" | "lshr" | "ashr", _) if !b.starts_with('%') => return false,
        (_, 65..=127) => widened(text, dst, op, bits, a, b),
        ("mul", 128) => {
            let (a, b) = (limbs(text, a), limbs(text, b));
            let low = text.let_(format!("mul i64 {}, {}", a.0, b.0));
            let high = multiply_high(text, &a.0, &b.0);
            let (first, second) =
                (text.let_(format!("mul i64 {}, {}", a.0, b.1)), text.let_(format!("mul i64 {}, {}", a.1, b.0)));
            let cross = text.let_(format!("add i64 {first}, {second}"));
            let high = text.let_(format!("add i64 {high}, {cross}"));
            join(text, dst, &(low, high));
        }
        ("udiv" | "urem", 128) => {
            let (a, b) = (limbs(text, a), limbs(text, b));
            divide(text, dst, op == "udiv", &a, &b);
        }
        ("sdiv" | "srem", 128) => {
            let (sign_a, a) = magnitude(text, 128, a);
            let (sign_b, b) = magnitude(text, 128, b);
            let (a, b) = (limbs(text, &a), limbs(text, &b));
            let unsigned = text.fresh();
            divide(text, &unsigned, op == "sdiv", &a, &b);
            let sign = if op == "sdiv" { text.let_(format!("xor i128 {sign_a}, {sign_b}")) } else { sign_a };
            with_sign(text, dst, 128, &unsigned, &sign);
        }
        ("shl" | "lshr" | "ashr", 128) => shift(text, dst, op, a, b),
        _ => return false,
    }
    true
}

/// Rewrites a call of a multiply-with-overflow intrinsic; false leaves it to the caller.
pub fn overflow(text: &mut Text, call: &Call<'_>) -> bool {
    let Some((signed, bits)) = call
        .callee
        .strip_prefix("@llvm.")
        .and_then(|name| name.split_once("mul.with.overflow."))
        .and_then(|(sign, ty)| Some((sign == "s", integer_width(ty)?)))
    else {
        return false;
    };
    let ([a, b], Some(dst)) = (call.args.as_slice(), call.dst) else { return false };
    let (a, b) = (value(a), value(b));
    let (product, flag) = match (signed, bits) {
        (false, 64) => {
            let low = text.let_(format!("mul i64 {a}, {b}"));
            let high = multiply_high(text, a, b);
            (low, text.let_(format!("icmp ne i64 {high}, 0")))
        }
        (true, 64) => {
            let low = text.let_(format!("mul i64 {a}, {b}"));
            let high = signed_high(text, a, b);
            let fill = text.let_(format!("ashr i64 {low}, 63"));
            (low, text.let_(format!("icmp ne i64 {high}, {fill}")))
        }
        (false, 128) => unsigned_overflow(text, a, b),
        (true, 128) => {
            let (sign_a, a) = magnitude(text, 128, a);
            let (sign_b, b) = magnitude(text, 128, b);
            let (unsigned, over) = unsigned_overflow(text, &a, &b);
            let sign = text.let_(format!("xor i128 {sign_a}, {sign_b}"));
            let product = text.fresh();
            with_sign(text, &product, 128, &unsigned, &sign);
            // A result that is not zero must have the sign that its factors give it.
            let got = text.let_(format!("ashr i128 {product}, 127"));
            let wrong = text.let_(format!("icmp ne i128 {got}, {sign}"));
            let nonzero = text.let_(format!("icmp ne i128 {unsigned}, 0"));
            let wrong = text.let_(format!("and i1 {wrong}, {nonzero}"));
            (product, text.let_(format!("or i1 {over}, {wrong}")))
        }
        _ => return false,
    };
    let ty = format!("{{ i{bits}, i1 }}");
    let half = text.let_(format!("insertvalue {ty} poison, i{bits} {product}, 0"));
    text.set(dst, format!("insertvalue {ty} {half}, i1 {flag}, 1"));
    true
}

fn limbs(text: &mut Text, wide: &str) -> Limbs {
    let low = text.let_(format!("trunc i128 {wide} to i64"));
    let high = text.let_(format!("lshr i128 {wide}, 64"));
    (low, text.let_(format!("trunc i128 {high} to i64")))
}

fn join(text: &mut Text, dst: &str, (low, high): &Limbs) {
    let low = text.let_(format!("zext i64 {low} to i128"));
    let high = text.let_(format!("zext i64 {high} to i128"));
    let high = text.let_(format!("shl i128 {high}, 64"));
    text.set(dst, format!("or i128 {high}, {low}"));
}

fn multiply_high(text: &mut Text, a: &str, b: &str) -> String {
    text.let_(format!("call i64 @__sbf_umulh(i64 {a}, i64 {b})"))
}

/// The upper half of a signed product: the unsigned one less each factor whose partner is negative.
fn signed_high(text: &mut Text, a: &str, b: &str) -> String {
    let mut high = multiply_high(text, a, b);
    for (sign_of, other) in [(a, b), (b, a)] {
        let mask = text.let_(format!("ashr i64 {sign_of}, 63"));
        let part = text.let_(format!("and i64 {mask}, {other}"));
        high = text.let_(format!("sub i64 {high}, {part}"));
    }
    high
}

/// The low 128 bits of an unsigned product, and whether there are more.
fn unsigned_overflow(text: &mut Text, a: &str, b: &str) -> (String, String) {
    let (a, b) = (limbs(text, a), limbs(text, b));
    let a_high = text.let_(format!("icmp ne i64 {}, 0", a.1));
    let b_high = text.let_(format!("icmp ne i64 {}, 0", b.1));
    let mut over = text.let_(format!("and i1 {a_high}, {b_high}"));
    let low = text.let_(format!("mul i64 {}, {}", a.0, b.0));
    let carry = multiply_high(text, &a.0, &b.0);
    let mut crosses = Vec::new();
    let mut flags = Vec::new();
    for (x, y) in [(&a.0, &b.1), (&a.1, &b.0)] {
        crosses.push(text.let_(format!("mul i64 {x}, {y}")));
        let high = multiply_high(text, x, y);
        flags.push(text.let_(format!("icmp ne i64 {high}, 0")));
    }
    let cross = text.let_(format!("add i64 {}, {}", crosses[0], crosses[1]));
    flags.push(text.let_(format!("icmp ult i64 {cross}, {}", crosses[0])));
    let high = text.let_(format!("add i64 {carry}, {cross}"));
    flags.push(text.let_(format!("icmp ult i64 {high}, {carry}")));
    for flag in flags {
        over = text.let_(format!("or i1 {over}, {flag}"));
    }
    let product = text.fresh();
    join(text, &product, &(low, high));
    (product, over)
}

/// Unsigned 128-bit quotient or remainder through the helper, which leaves both in memory.
fn divide(text: &mut Text, dst: &str, quotient: bool, a: &Limbs, b: &Limbs) {
    let slot = text.slot("[4 x i64]");
    text.line(format!("  call void @llvm.lifetime.start.p0(ptr {slot})"));
    text.line(format!("  call void @__sbf_udivmod(ptr {slot}, i64 {}, i64 {}, i64 {}, i64 {})", a.0, a.1, b.0, b.1));
    let first = if quotient { 0 } else { 16 };
    let low = text.let_(format!("getelementptr i8, ptr {slot}, i64 {first}"));
    let low = text.let_(format!("load i64, ptr {low}, align 8"));
    let high = text.let_(format!("getelementptr i8, ptr {slot}, i64 {}", first + 8));
    let high = text.let_(format!("load i64, ptr {high}, align 8"));
    text.line(format!("  call void @llvm.lifetime.end.p0(ptr {slot})"));
    join(text, dst, &(low, high));
}

/// The sign of a value as a mask of zeros or ones, and its absolute value.
fn magnitude(text: &mut Text, bits: u64, x: &str) -> (String, String) {
    let sign = text.let_(format!("ashr i{bits} {x}, {}", bits - 1));
    let flipped = text.let_(format!("xor i{bits} {x}, {sign}"));
    let absolute = text.let_(format!("sub i{bits} {flipped}, {sign}"));
    (sign, absolute)
}

fn with_sign(text: &mut Text, dst: &str, bits: u64, x: &str, sign: &str) {
    let flipped = text.let_(format!("xor i{bits} {x}, {sign}"));
    text.set(dst, format!("sub i{bits} {flipped}, {sign}"));
}

/// Signed division of up to 64 bits: SBPF v0 only has the unsigned one.
fn signed_division(text: &mut Text, dst: &str, op: &str, bits: u64, a: &str, b: &str) {
    if bits < 64 {
        let a = text.let_(format!("sext i{bits} {a} to i64"));
        let b = text.let_(format!("sext i{bits} {b} to i64"));
        let wide = text.fresh();
        signed_division(text, &wide, op, 64, &a, &b);
        text.set(dst, format!("trunc i64 {wide} to i{bits}"));
        return;
    }
    let (sign_a, a) = magnitude(text, 64, a);
    let (sign_b, b) = magnitude(text, 64, b);
    let unsigned = if op == "sdiv" { "udiv" } else { "urem" };
    let unsigned = text.let_(format!("{unsigned} i64 {a}, {b}"));
    let sign = if op == "sdiv" { text.let_(format!("xor i64 {sign_a}, {sign_b}")) } else { sign_a };
    with_sign(text, dst, 64, &unsigned, &sign);
}

/// An odd width goes through 128 bits; the next round lowers what this emits.
fn widened(text: &mut Text, dst: &str, op: &str, bits: u64, a: &str, b: &str) {
    let (extend_a, extend_b) = match op {
        "sdiv" | "srem" => ("sext", "sext"),
        "ashr" => ("sext", "zext"),
        _ => ("zext", "zext"),
    };
    let a = text.let_(format!("{extend_a} i{bits} {a} to i128"));
    let b = text.let_(format!("{extend_b} i{bits} {b} to i128"));
    let wide = text.let_(format!("{op} i128 {a}, {b}"));
    text.set(dst, format!("trunc i128 {wide} to i{bits}"));
}

/// A 128-bit shift by a variable amount below 128.
fn shift(text: &mut Text, dst: &str, op: &str, a: &str, amount: &str) {
    let (low, high) = limbs(text, a);
    let amount = text.let_(format!("trunc i128 {amount} to i64"));
    let within = text.let_(format!("and i64 {amount}, 63"));
    // 63 - within: with the shift by one before it, the carry is right for 0 too, where 64 - 0 would be out of range.
    let inverse = text.let_(format!("xor i64 {within}, 63"));
    let whole = text.let_(format!("icmp ugt i64 {amount}, 63"));
    let left = op == "shl";
    let (near, far, back) = if left { (&low, &high, "lshr") } else { (&high, &low, "shl") };
    let shifted_near = text.let_(format!("{op} i64 {near}, {within}"));
    let forth = if left { "shl" } else { "lshr" };
    let shifted_far = text.let_(format!("{forth} i64 {far}, {within}"));
    let carry = text.let_(format!("{back} i64 {near}, 1"));
    let carry = text.let_(format!("{back} i64 {carry}, {inverse}"));
    let mixed = text.let_(format!("or i64 {shifted_far}, {carry}"));
    let fill = if op == "ashr" { text.let_(format!("ashr i64 {high}, 63")) } else { "0".to_owned() };
    let far = text.let_(format!("select i1 {whole}, i64 {shifted_near}, i64 {mixed}"));
    let near = text.let_(format!("select i1 {whole}, i64 {fill}, i64 {shifted_near}"));
    let halves = if left { (near, far) } else { (far, near) };
    join(text, dst, &halves);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(line: &str) -> Option<String> {
        let mut text = Text::new(0);
        binary(&mut text, line).then(|| text.finish())
    }

    #[test]
    fn what_bpf_has_stays() {
        for line in [
            "  %x = mul i64 %a, %b",
            "  %x = udiv i64 %a, 10",
            "  %x = shl nuw i128 %a, 64",
            "  %x = lshr i64 %a, %b",
            "  %x = add i128 %a, %b",
        ] {
            assert_eq!(lowered(line), None, "{line}");
        }
    }

    #[test]
    fn what_bpf_lacks_goes() {
        for line in [
            "  %x = mul nuw nsw i128 %a, 10",
            "  %x = udiv i128 %a, 10",
            "  %x = srem i128 %a, %b, !dbg !4",
            "  %x = sdiv exact i64 %a, %b",
            "  %x = srem i8 %a, 7",
            "  %x = ashr exact i128 %a, %b",
            "  %x = shl i128 1, %b",
        ] {
            let text = lowered(line).unwrap_or_else(|| panic!("{line} stayed"));
            assert!(text.contains("\n  %x = "), "{text}");
            for again in text.lines() {
                assert_eq!(lowered(again), None, "{line}: {again} is not lowered");
            }
        }
    }

    #[test]
    fn odd_widths_take_one_round_more() {
        let text = lowered("  %x = udiv i96 %a, %b").expect("widened");
        assert!(text.contains("udiv i128"), "{text}");
        assert!(text.contains("%x = trunc i128"), "{text}");
    }
}
