//! The calling convention BPF lacks: it has five argument registers and one for the result. What does not fit goes through
//! the caller's stack. The new signature follows from the old one alone, so calls through pointers agree with it too.

use std::collections::HashMap;

use super::{
    function::Text,
    syntax::{Call, Definition, first_type, registers, split, value},
};

/// Registers that BPF passes arguments in.
const REGISTERS: u64 = 5;
/// Bytes a parameter in memory takes at least.
const SLOT: u64 = 8;

/// Where a signature's parts travel.
#[derive(Debug, PartialEq)]
struct Convention {
    /// The result goes to memory that the first argument points to.
    result_in_memory: bool,
    /// How many parameters stay in registers; the others lie in memory that the last argument points to.
    in_registers: usize,
}

/// The convention for a signature; none if it fits as it is.
fn convention(params: &[&str], result: &str) -> Option<Convention> {
    let sizes: Vec<u64> = params.iter().map(|p| registers(first_type(p))).collect();
    let result_in_memory = registers(result) > 1;
    let room = REGISTERS - u64::from(result_in_memory);
    if sizes.iter().sum::<u64>() <= room {
        return result_in_memory.then_some(Convention { result_in_memory, in_registers: params.len() });
    }
    let mut used = 0;
    let in_registers = sizes.iter().take_while(|size| {
        used += **size;
        used < room
    });
    Some(Convention { result_in_memory, in_registers: in_registers.count() })
}

/// The attribute groups of a module, by `#number`.
pub struct Attributes(HashMap<String, String>);

impl Attributes {
    /// Reads the groups; `memory(..)` is left out, since a rewritten function touches memory it did not touch before.
    pub fn read(ir: &str) -> Self {
        let groups = ir.lines().filter_map(|line| {
            let (name, body) = line.strip_prefix("attributes ")?.split_once(" = { ")?;
            Some((name.to_owned(), without_memory(body.trim_end().trim_end_matches('}'))))
        });
        Self(groups.collect())
    }

    /// Attributes of a definition's tail, groups written out.
    fn of(&self, tail: &str) -> String {
        let words = split_attributes(tail.trim_end().trim_end_matches('{'));
        let parts = words.into_iter().map(|word| self.0.get(word).cloned().unwrap_or_else(|| word.to_owned()));
        without_memory(&parts.collect::<Vec<_>>().join(" "))
    }
}

/// Words of an attribute list; a bracket belongs to the word before it.
fn split_attributes(list: &str) -> Vec<&str> {
    let (mut words, mut depth, mut quoted, mut start) = (Vec::new(), 0_i32, false, 0);
    for (at, c) in list.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ' ' if !quoted && depth == 0 => {
                words.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&list[start..]);
    words.retain(|word| !word.is_empty());
    words
}

fn without_memory(list: &str) -> String {
    let mut words = split_attributes(list);
    words.retain(|word| !word.starts_with("memory("));
    words.join(" ")
}

/// A parameter or argument that a rewritten signature keeps. `returned` no longer holds once the result is in memory.
fn kept(part: &str) -> String {
    part.replace(" returned ", " ")
}

/// Rewrites a definition and starts it; gives back the result type if `ret` must store to memory.
pub fn define(text: &mut Text, definition: &Definition<'_>, attributes: &Attributes) -> Option<Option<String>> {
    let plan = convention(&definition.params, definition.result)?;
    // Attributes of the result, such as `range(i64 0, 2)`, would not fit `void`.
    const KEEP: [&str; 12] = [
        "define",
        "internal",
        "private",
        "hidden",
        "protected",
        "weak",
        "weak_odr",
        "linkonce_odr",
        "dso_local",
        "fastcc",
        "coldcc",
        "external",
    ];
    let head = definition.head.split_whitespace().filter(|word| KEEP.contains(word)).collect::<Vec<_>>().join(" ");
    let mut params = Vec::new();
    if plan.result_in_memory {
        params.push("ptr %sbf.result".to_owned());
    }
    params.extend(definition.params[..plan.in_registers].iter().map(|p| kept(p)));
    let rest = &definition.params[plan.in_registers..];
    if !rest.is_empty() {
        params.push("ptr %sbf.rest".to_owned());
    }
    let result = if plan.result_in_memory { "void" } else { definition.result };
    text.begin(format!("{head} {result} {}({}) {} {{", definition.name, params.join(", "), attributes.of(definition.tail)));
    let mut offset = 0;
    for param in rest {
        let ty = first_type(param);
        let at = text.fresh();
        text.entry(format!("{at} = getelementptr i8, ptr %sbf.rest, i64 {offset}"));
        text.entry(format!("{} = load {ty}, ptr {at}, align 8", value(param)));
        offset += registers(ty) * SLOT;
    }
    Some(plan.result_in_memory.then(|| definition.result.to_owned()))
}

/// Rewrites a `ret` of a function whose result goes to memory.
pub fn result(text: &mut Text, line: &str) -> bool {
    let Some(returned) = line.trim_start().strip_prefix("ret ") else { return false };
    let returned = split(returned)[0];
    text.line(format!("  store {returned}, ptr %sbf.result, align 8"));
    text.line("  ret void");
    true
}

/// Rewrites a call whose signature does not fit; false leaves it to the caller.
pub fn call(text: &mut Text, call: &Call<'_>) -> bool {
    if call.callee.starts_with("@llvm.") {
        return false;
    }
    let Some(plan) = convention(&call.args, call.result) else { return false };
    let mut args = Vec::new();
    let mut slots = Vec::new();
    if plan.result_in_memory {
        let slot = memory(text, &mut slots, call.result);
        args.push(format!("ptr {slot}"));
    }
    args.extend(call.args[..plan.in_registers].iter().map(|a| kept(a)));
    let rest = &call.args[plan.in_registers..];
    if !rest.is_empty() {
        let size: u64 = rest.iter().map(|a| registers(first_type(a)) * SLOT).sum();
        let slot = memory(text, &mut slots, &format!("[{size} x i8]"));
        let mut offset = 0;
        for arg in rest {
            let ty = first_type(arg);
            let at = text.let_(format!("getelementptr i8, ptr {slot}, i64 {offset}"));
            text.line(format!("  store {ty} {}, ptr {at}, align 8", value(arg)));
            offset += registers(ty) * SLOT;
        }
        args.push(format!("ptr {slot}"));
    }
    // Both sides must agree on the convention; attributes of the result go.
    let convention = call.head.split_whitespace().find(|word| matches!(*word, "fastcc" | "coldcc")).unwrap_or_default();
    let args = args.join(", ");
    match (plan.result_in_memory, call.dst) {
        (true, _) => text.line(format!("  call {convention} void {}({args})", call.callee)),
        (false, Some(dst)) => text.set(dst, format!("call {convention} {} {}({args})", call.result, call.callee)),
        (false, None) => text.line(format!("  call {convention} {} {}({args})", call.result, call.callee)),
    }
    if let (true, Some(dst)) = (plan.result_in_memory, call.dst) {
        text.set(dst, format!("load {}, ptr {}, align 8", call.result, slots[0]));
    }
    for slot in slots {
        text.line(format!("  call void @llvm.lifetime.end.p0(ptr {slot})"));
    }
    true
}

/// Stack memory that lives from here to the end of the call, so that calls share it.
fn memory(text: &mut Text, slots: &mut Vec<String>, ty: &str) -> String {
    let slot = text.slot(ty);
    text.line(format!("  call void @llvm.lifetime.start.p0(ptr {slot})"));
    slots.push(slot.clone());
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitting_signatures_stay() {
        assert_eq!(convention(&["ptr %a", "i128 %b", "i64 %c", "i64 %d"], "i64"), None);
        assert_eq!(convention(&["[5 x i64] %a"], "void"), None);
    }

    #[test]
    fn the_plan_leaves_room_for_its_pointers() {
        let six = ["i64 %a"; 6];
        assert_eq!(convention(&six, "void"), Some(Convention { result_in_memory: false, in_registers: 4 }));
        assert_eq!(convention(&six, "i128"), Some(Convention { result_in_memory: true, in_registers: 3 }));
        assert_eq!(convention(&six[..4], "i128"), Some(Convention { result_in_memory: true, in_registers: 4 }));
        let wide = ["i128 %a", "i128 %b", "i128 %c"];
        assert_eq!(convention(&wide, "void"), Some(Convention { result_in_memory: false, in_registers: 2 }));
    }

    #[test]
    fn memory_attributes_go() {
        let attributes = Attributes::read("attributes #7 = { noinline memory(argmem: read) nounwind \"a b\"=\"c\" }\n");
        assert_eq!(attributes.of(" unnamed_addr #7 memory(none) {"), "unnamed_addr noinline nounwind \"a b\"=\"c\"");
    }
}
