//! Rewrites the LLVM IR that LLVM's BPF back end cannot compile into IR that it can.

mod arithmetic;
mod calls;
mod check;
mod function;
mod syntax;

pub use arithmetic::HELPERS;
pub use check::{readable, refuse};

use std::sync::LazyLock;

use regex::Regex;

use calls::Attributes;
use function::Text;
use syntax::pattern;

static STRUCT_RESULT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bsret\([^()]*\) "));

/// One round over a module's text, in which the `instnamer` pass has given every value a name. Gives the new text and how
/// much was rewritten; optimisations after it may bring back something to rewrite, so callers repeat until that is zero.
pub fn rewrite(ir: &str, round: usize) -> (String, usize) {
    // BPF refuses functions with this attribute, which says nothing that the pointer does not.
    let ir = STRUCT_RESULT.replace_all(ir, "");
    let attributes = Attributes::read(&ir);
    let mut text = Text::new(round);
    let mut rewritten = 0;
    let mut result_in_memory = false;
    for line in ir.lines() {
        if let Some(definition) = syntax::definition(line) {
            match calls::define(&mut text, &definition, &attributes) {
                Some(result) => {
                    rewritten += 1;
                    result_in_memory = result.is_some();
                }
                None => {
                    text.begin(line);
                    result_in_memory = false;
                }
            }
            continue;
        }
        if line == "}" {
            text.end();
            continue;
        }
        let done = if line.starts_with("  ret ") && result_in_memory {
            calls::result(&mut text, line)
        } else if let Some(call) = syntax::call(line) {
            arithmetic::overflow(&mut text, &call) || calls::call(&mut text, &call)
        } else {
            arithmetic::binary(&mut text, line)
        };
        if done {
            rewritten += 1;
        } else {
            text.line(line);
        }
    }
    (declare(text.finish()), rewritten)
}

/// Declares what the rewritten text calls.
fn declare(mut ir: String) -> String {
    let marks = ["start", "end"].map(|end| {
        let name = format!("llvm.lifetime.{end}.p0");
        let declaration = format!("declare void @{name}(ptr captures(none))");
        (name, declaration)
    });
    let helpers = HELPERS.map(|(name, declaration)| (name.to_owned(), declaration.to_owned()));
    for (name, declaration) in marks.into_iter().chain(helpers) {
        let declared = pattern(&format!(r"(?m)^(declare|define) [^\n]*@{}\(", regex::escape(&name)));
        if ir.contains(&format!("@{name}(")) && !declared.is_match(&ir) {
            ir.push_str(&declaration);
            ir.push('\n');
        }
    }
    ir
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "\
define internal fastcc noundef i128 @wide(i64 %a, i64 %b, i64 %c, i64 %d, i128 noundef %e) unnamed_addr #0 {
start:
  %x = mul i128 %e, %e
  ret i128 %x
}
define i64 @entrypoint(ptr %p) {
start:
  %y = tail call fastcc noundef i128 @wide(i64 1, i64 2, i64 3, i64 4, i128 5) #1
  %z = trunc i128 %y to i64
  ret i64 %z
}
attributes #0 = { noinline memory(none) }
attributes #1 = { nounwind }
";

    #[test]
    fn definition_and_call_agree() {
        let (text, rewritten) = rewrite(MODULE, 0);
        assert_eq!(rewritten, 4, "{text}");
        assert!(
            text.contains(
                "define internal fastcc void @wide(ptr %sbf.result, i64 %a, i64 %b, i64 %c, ptr %sbf.rest) unnamed_addr noinline {"
            ),
            "{text}"
        );
        assert!(text.contains("  call fastcc void @wide(ptr %sbf.0."), "{text}");
        assert!(text.contains("store i128 %x, ptr %sbf.result"), "{text}");
        assert!(text.contains("load i128, ptr %sbf.0."), "{text}");
        assert!(text.contains("declare i64 @__sbf_umulh(i64, i64)"), "{text}");
    }

    #[test]
    fn a_second_round_finds_nothing() {
        let (text, _) = rewrite(MODULE, 0);
        assert_eq!(rewrite(&text, 1).1, 0);
    }
}
