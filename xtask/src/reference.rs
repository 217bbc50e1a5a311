//! docs/program.md: every account, instruction, event, error and authority, out of the interface description.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Written by hand: which key can do what, and how each is rotated.
const AUTHORITIES: &str = include_str!("authorities.md");

/// Bytes of the discriminator before an account's fields.
const DISCRIMINATOR: u64 = 8;

/// The page's text.
pub fn page(idl: &Value) -> Result<String> {
    let types: BTreeMap<&str, &Value> = items(&idl["types"]).map(|ty| (name(ty), ty)).collect();
    let mut text = String::from(
        "# The on-chain program\n\n> Written by `cargo xtask idl` from the program's interface description \
         (programs/datagalax/idl/datagalax.json); do not edit. CI fails when it is stale. The mechanism is in \
         [protocol.md](protocol.md), what each instruction costs in [costs.md](costs.md).\n\n",
    );
    let _ = writeln!(text, "Program: `{}`\n", idl["address"].as_str().unwrap_or_default());
    text.push_str(AUTHORITIES);
    text.push_str("\n## Accounts\n\nZero-copy, little-endian, behind a discriminator of 8 bytes.\n\n| account | bytes | what it is |\n|---|---:|---|\n");
    for account in items(&idl["accounts"]) {
        let ty = types.get(name(account)).with_context(|| format!("the account {} has no type", name(account)))?;
        let bytes = DISCRIMINATOR + size(&ty["type"], &types)?;
        let more = if name(account) == "CheckerSetHeader" { " and 64 for each ticket" } else { "" };
        let _ =
            writeln!(text, "| [{0}](#{1}) | {bytes}{more} | {2} |", name(account), name(account).to_lowercase(), docs(ty));
    }
    for account in items(&idl["accounts"]) {
        fields(&mut text, types[name(account)]);
    }
    text.push_str("\n## Parts of accounts and arguments\n");
    let accounts: Vec<&str> = items(&idl["accounts"]).map(name).collect();
    let events: Vec<&str> = items(&idl["events"]).map(name).collect();
    for (_, ty) in types.iter().filter(|(name, _)| !accounts.contains(name) && !events.contains(name)) {
        fields(&mut text, ty);
    }
    instructions(&mut text, idl);
    text.push_str(
        "\n## Events\n\nRecorded by a call of the program to itself (`EVENT_IX_TAG`, discriminator, the fields as they lie in memory); \
         `ReportRevealed` and `BlockTallied`, which are many, are in the log.\n\n| event | fields | when |\n|---|---|---|\n",
    );
    for event in items(&idl["events"]) {
        let ty = types.get(name(event)).with_context(|| format!("the event {} has no type", name(event)))?;
        let list: Vec<String> =
            items(&ty["type"]["fields"]).filter(|f| name(f) != "reserved").map(|f| format!("`{}`", name(f))).collect();
        let _ = writeln!(text, "| {} | {} | {} |", name(event), list.join(", "), docs(ty));
    }
    text.push_str("\n## Errors\n\nNumbers are never given again.\n\n| code | name | message |\n|---:|---|---|\n");
    for error in items(&idl["errors"]) {
        let message = error["msg"].as_str().with_context(|| format!("the error {} has no message", name(error)))?;
        let _ = writeln!(text, "| {} | {} | {message} |", error["code"], name(error));
    }
    Ok(text)
}

fn instructions(text: &mut String, idl: &Value) {
    text.push_str(
        "\n## Instructions\n\nBy number (the discriminator, one byte). s: signs, w: writable, o: may be left out (pass the program's \
         address).\n\n| | instruction | arguments | accounts |\n|---:|---|---|---|\n",
    );
    let mut all: Vec<&Value> = items(&idl["instructions"]).collect();
    all.sort_by_key(|i| i["discriminator"][0].as_u64());
    for instruction in all {
        let arguments: Vec<String> =
            items(&instruction["args"]).map(|a| format!("{}: {}", name(a), type_name(&a["type"]))).collect();
        let accounts: Vec<String> = items(&instruction["accounts"])
            .map(|account| {
                let flags: String = [("signer", 's'), ("writable", 'w'), ("optional", 'o')]
                    .into_iter()
                    .filter(|(key, _)| account[key].as_bool() == Some(true))
                    .map(|(_, flag)| flag)
                    .collect();
                if flags.is_empty() { name(account).to_owned() } else { format!("{} *{flags}*", name(account)) }
            })
            .collect();
        let _ = writeln!(
            text,
            "| {} | **{}** {} | {} | {} |",
            instruction["discriminator"][0],
            name(instruction),
            docs(instruction),
            arguments.join(", "),
            accounts.join(", ")
        );
    }
}

fn fields(text: &mut String, ty: &Value) {
    let _ = write!(text, "\n### {}\n\n{}\n\n| field | type | |\n|---|---|---|\n", name(ty), docs(ty));
    for field in items(&ty["type"]["fields"]) {
        let _ = writeln!(text, "| {} | {} | {} |", name(field), type_name(&field["type"]), docs(field));
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

/// The docstring as one line of a table; rustdoc's links become plain names.
fn docs(value: &Value) -> String {
    let lines: Vec<&str> = items(&value["docs"]).filter_map(Value::as_str).map(str::trim).collect();
    lines.join(" ").replace("[`", "`").replace("`]", "`").replace('|', "\\|").trim().to_owned()
}

fn type_name(ty: &Value) -> String {
    if let Some(simple) = ty.as_str() {
        return simple.to_owned();
    }
    if let Some(defined) = ty["defined"]["name"].as_str() {
        return defined.to_owned();
    }
    if let (Some(inner), Some(count)) = (ty["array"].get(0), ty["array"].get(1)) {
        return format!("[{}; {count}]", type_name(inner));
    }
    if !ty["vec"].is_null() {
        return format!("list of {}", type_name(&ty["vec"]));
    }
    ty.to_string()
}

/// Bytes of a zero-copy type, which has no padding.
fn size(ty: &Value, types: &BTreeMap<&str, &Value>) -> Result<u64> {
    if let Some(simple) = ty.as_str() {
        return Ok(match simple {
            "u8" | "i8" | "bool" => 1,
            "u16" | "i16" => 2,
            "u32" | "i32" => 4,
            "u64" | "i64" => 8,
            "pubkey" => 32,
            other => bail!("xtask/src/reference.rs does not know the size of {other}"),
        });
    }
    if let Some(defined) = ty["defined"]["name"].as_str() {
        let inner = types.get(defined).with_context(|| format!("{defined} is not described"))?;
        return size(&inner["type"], types);
    }
    if let (Some(inner), Some(count)) = (ty["array"].get(0), ty["array"].get(1)) {
        return Ok(size(inner, types)? * count.as_u64().context("an array has a length")?);
    }
    items(&ty["fields"]).map(|field| size(&field["type"], types)).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_lists_everything() {
        let idl = json!({
            "address": "Abc",
            "accounts": [{"name": "Lease", "discriminator": [1]}],
            "events": [{"name": "Ended", "discriminator": [2]}],
            "errors": [{"code": 6000, "name": "Late", "msg": "Too late"}],
            "instructions": [{
                "name": "end", "docs": ["Ends it."], "discriminator": [7],
                "args": [{"name": "why", "type": "u16"}],
                "accounts": [{"name": "user", "signer": true, "writable": true}, {"name": "network"}]
            }],
            "types": [
                {"name": "Lease", "docs": ["A lease of", "[`Pair`]s."], "type": {"fields": [
                    {"name": "user", "type": "pubkey"},
                    {"name": "pairs", "type": {"array": [{"defined": {"name": "Pair"}}, 3]}}
                ]}},
                {"name": "Pair", "type": {"fields": [{"name": "a", "type": "u64"}, {"name": "b", "type": {"array": ["u8", 8]}}]}},
                {"name": "Ended", "docs": ["It ended."], "type": {"fields": [{"name": "lease", "type": "pubkey"}]}}
            ]
        });
        let page = page(&idl).expect("a page");
        for line in [
            "| [Lease](#lease) | 88 | A lease of `Pair`s. |",
            "| pairs | [Pair; 3] |  |",
            "| 7 | **end** Ends it. | why: u16 | user *sw*, network |",
            "| Ended | `lease` | It ended. |",
            "| 6000 | Late | Too late |",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
