//! Just enough of LLVM's textual IR to rewrite calls and arithmetic: brackets, types, arguments, definitions, calls.

use std::sync::LazyLock;

use regex::Regex;

/// A function's or a value's name after its sigil, quoted or not.
const NAME: &str = r#"(?:"[^"]*"|[-\w.$]+)"#;

static CALL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s+(?:(%\S+) = )?(?:tail |notail |musttail )?call (.*)$"));
static CALLEE: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"[@%]{NAME}\(")));
static DEFINED: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"@{NAME}\(")));

/// Compiles a pattern that is part of this program's text.
pub fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("bad pattern {text}: {error}"))
}

/// A `define` line taken apart.
#[derive(Debug, PartialEq)]
pub struct Definition<'a> {
    /// Everything before the result type: `define`, linkage, calling convention, attributes of the result.
    pub head: &'a str,
    /// The result type.
    pub result: &'a str,
    /// The name with its `@`.
    pub name: &'a str,
    /// The parameters: type, attributes, name.
    pub params: Vec<&'a str>,
    /// Everything after the closing bracket: attributes and the opening brace.
    pub tail: &'a str,
}

/// A call taken apart. Calls of inline assembly and of constant addresses are not parsed.
#[derive(Debug, PartialEq)]
pub struct Call<'a> {
    /// Where the result goes, if anywhere.
    pub dst: Option<&'a str>,
    /// Everything between `call` and the result type.
    pub head: &'a str,
    /// The result type.
    pub result: &'a str,
    /// The callee with its sigil: `@` for a function, `%` for a pointer.
    pub callee: &'a str,
    /// The arguments: type, attributes, value.
    pub args: Vec<&'a str>,
}

/// Reads a `define` line.
pub fn definition(line: &str) -> Option<Definition<'_>> {
    if !line.starts_with("define ") {
        return None;
    }
    let name = DEFINED.find(line)?;
    let open = name.end() - 1;
    let close = closing(line, open)?;
    let (head, result) = last_type(&line[..name.start()])?;
    Some(Definition {
        head,
        result,
        name: &line[name.start()..open],
        params: split(&line[open + 1..close]),
        tail: &line[close + 1..],
    })
}

/// Reads a call instruction.
pub fn call(line: &str) -> Option<Call<'_>> {
    let whole = CALL.captures(line)?;
    let rest = whole.get(2)?.as_str();
    let callee = CALLEE.find(rest)?;
    let before = &rest[..callee.start()];
    if before.split_whitespace().any(|word| word == "asm") {
        return None;
    }
    let open = callee.end() - 1;
    let close = closing(rest, open)?;
    let (head, result) = last_type(before)?;
    Some(Call {
        dst: whole.get(1).map(|m| m.as_str()),
        head,
        result,
        callee: &rest[callee.start()..open],
        args: split(&rest[open + 1..close]),
    })
}

/// Splits at the commas outside brackets and quotes.
pub fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0_usize, false, 0);
    for (at, c) in list.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !list[start..].trim().is_empty() {
        parts.push(list[start..].trim());
    }
    parts
}

/// The position of the bracket that closes the one at `open`.
pub fn closing(text: &str, open: usize) -> Option<usize> {
    let (mut depth, mut quoted) = (0_usize, false);
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The type a parameter or an argument starts with.
pub fn first_type(text: &str) -> &str {
    let text = text.trim_start();
    let end = match text.as_bytes().first() {
        Some(b'{' | b'[' | b'<') => closing(text, 0).map_or(text.len(), |at| at + 1),
        _ => text.find(char::is_whitespace).unwrap_or(text.len()),
    };
    &text[..end]
}

/// The type a text ends with, and what comes before it.
fn last_type(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let start = match text.as_bytes().last()? {
        b'}' | b']' | b'>' => {
            let mut depth = 0_usize;
            text.char_indices().rev().find_map(|(at, c)| {
                match c {
                    '}' | ']' | '>' => depth += 1,
                    '{' | '[' | '<' => depth -= 1,
                    _ => {}
                }
                (depth == 0).then_some(at)
            })?
        }
        _ => text.rfind(char::is_whitespace).map_or(0, |at| at + 1),
    };
    Some((text[..start].trim_end(), &text[start..]))
}

/// The value of an argument, without its type and attributes.
pub fn value(argument: &str) -> &str {
    const CONSTANTS: [&str; 12] = [
        "true",
        "false",
        "null",
        "undef",
        "poison",
        "zeroinitializer",
        "getelementptr",
        "inttoptr",
        "ptrtoint",
        "bitcast",
        "splat",
        "none",
    ];
    let mut rest = argument.trim()[first_type(argument).len()..].trim_start();
    let mut after_align = false;
    loop {
        let end = rest.find([' ', '(']).unwrap_or(rest.len());
        let word = &rest[..end];
        let starts_value = rest.starts_with(['%', '@', '-', '{', '[', '<', '"'])
            || rest.starts_with(|c: char| c.is_ascii_digit())
            || CONSTANTS.contains(&word);
        if (starts_value && !after_align) || rest.is_empty() {
            return rest;
        }
        after_align = word == "align" && rest[end..].starts_with(' ');
        // An attribute with its bracket, e.g. `dereferenceable(8)`.
        let next = match rest.as_bytes().get(end) {
            Some(b'(') => closing(rest, end).map_or(rest.len(), |at| at + 1),
            _ => end,
        };
        rest = rest[next..].trim_start();
    }
}

/// How many 64-bit registers a value of the type takes.
pub fn registers(ty: &str) -> u64 {
    let ty = ty.trim();
    if let Some(fields) = ty.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return split(fields).into_iter().map(registers).sum();
    }
    if let Some((count, element)) =
        ty.strip_prefix(['[', '<']).and_then(|t| t.strip_suffix([']', '>'])).and_then(|t| t.split_once(" x "))
    {
        return count.trim().parse::<u64>().unwrap_or(1) * registers(element);
    }
    match ty {
        "void" | "metadata" => 0,
        _ => integer_width(ty).map_or(1, |bits| bits.div_ceil(64)),
    }
}

/// The width of an integer type in bits.
pub fn integer_width(ty: &str) -> Option<u64> {
    ty.strip_prefix('i')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_taken_apart() {
        let line = r#"define internal fastcc noundef { i64, i128 } @"a,b("(ptr noalias align 8 dereferenceable(32) %self, i128 noundef %x) unnamed_addr #3 {"#;
        let got = definition(line).expect("a definition");
        assert_eq!(got.result, "{ i64, i128 }");
        assert_eq!(got.name, r#"@"a,b(""#);
        assert_eq!(got.params.len(), 2);
        assert_eq!(got.head, "define internal fastcc noundef");
        assert_eq!(got.tail, " unnamed_addr #3 {");
    }

    #[test]
    fn calls_are_taken_apart() {
        let line = "  %r = tail call fastcc noundef range(i64 0, 5) i64 @f(ptr align 8 %p, [2 x i64] %q) #4, !noundef !3";
        let got = call(line).expect("a call");
        assert_eq!((got.dst, got.result, got.callee), (Some("%r"), "i64", "@f"));
        assert_eq!(got.head, "fastcc noundef range(i64 0, 5)");
        assert_eq!(got.args, ["ptr align 8 %p", "[2 x i64] %q"]);
        assert!(call("  call void asm sideeffect \"\", \"r\"(ptr %x)").is_none());
        assert_eq!(call("  call void %table(i128 1)").expect("indirect").callee, "%table");
    }

    #[test]
    fn values_lose_type_and_attributes() {
        for (argument, want) in [
            ("ptr noundef nonnull align 8 dereferenceable(16) %x", "%x"),
            ("i64 range(i64 0, 9) -4", "-4"),
            ("ptr align 8 getelementptr inbounds (i8, ptr @t, i64 8)", "getelementptr inbounds (i8, ptr @t, i64 8)"),
            ("i1 noundef zeroext true", "true"),
            ("ptr align 16 null", "null"),
            ("{ i64, i64 } { i64 1, i64 2 }", "{ i64 1, i64 2 }"),
        ] {
            assert_eq!(value(argument), want, "{argument}");
        }
    }

    #[test]
    fn registers_are_counted() {
        for (ty, want) in [("i1", 1), ("i128", 2), ("ptr", 1), ("{ i64, { i128, i1 } }", 4), ("[3 x i64]", 3), ("void", 0)] {
            assert_eq!(registers(ty), want, "{ty}");
        }
    }
}
