//! The program's interface description, put together from what Anchor's `idl-build` feature prints.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{reference, workspace};

const PACKAGE: &str = "datagalax";
/// Anchor's generated tests have this in their names.
const PRINTERS: &str = "__anchor_private_print_idl";

/// Writes the description and its page, or with `check` only compares and fails if one in the repository is stale.
pub fn run(check: bool) -> Result<()> {
    let idl = assemble(&printed()?)?;
    let root = workspace::root()?;
    for (path, fresh) in [(file()?, text(&idl)?), (root.join("docs/program.md"), reference::page(&ordered(&idl))?)] {
        let shown = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        if check {
            let committed = fs::read_to_string(&path).unwrap_or_default();
            ensure!(committed == fresh, "{shown} is stale: run `cargo xtask idl` and commit the file");
            println!("{shown} is up to date");
            continue;
        }
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, fresh).with_context(|| format!("cannot write {shown}"))?;
        println!("{shown} written");
    }
    Ok(())
}

/// The program's address, by the description in the repository.
pub fn address() -> Result<String> {
    let path = file()?;
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let idl: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged: run `cargo xtask idl`", path.display()))?;
    Ok(idl["address"].as_str().context("the description names no address: run `cargo xtask idl`")?.to_owned())
}

fn file() -> Result<PathBuf> {
    Ok(workspace::root()?.join("programs/datagalax/idl/datagalax.json"))
}

/// What the program's generated tests print.
fn printed() -> Result<String> {
    let output = workspace::cargo()
        .args(["test", "--quiet", "--locked", "--lib", "--package", PACKAGE, "--features", "idl-build", PRINTERS])
        .args(["--", "--show-output"])
        .current_dir(workspace::root()?)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the program does not build with the feature idl-build:\n{text}");
    Ok(text)
}

/// The parts between `--- IDL begin <kind> ---` and `--- IDL end <kind> ---`, with their kinds.
fn parts(printed: &str) -> Vec<(&str, String)> {
    let mut parts = Vec::new();
    let mut lines = printed.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("--- IDL begin ").and_then(|rest| rest.strip_suffix(" ---")) else { continue };
        let end = format!("--- IDL end {kind} ---");
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        parts.push((kind, body.join("\n")));
    }
    parts
}

/// One description out of the printed parts, with sorted lists and short type names.
fn assemble(printed: &str) -> Result<Value> {
    let mut idl = Value::Null;
    let mut address = String::new();
    let (mut constants, mut events, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut types = BTreeMap::new();
    for (kind, body) in parts(printed) {
        if kind == "address" {
            address = body.trim().to_owned();
            continue;
        }
        let mut value: Value =
            serde_json::from_str(&body).with_context(|| format!("Anchor printed a bad {kind}: {body}"))?;
        match kind {
            "program" => idl = value,
            "const" => constants.push(value),
            "errors" => errors.extend(list(value)),
            "event" => {
                events.push(value["event"].take());
                types.extend(list(value["types"].take()).into_iter().map(|ty| (name(&ty), ty)));
            }
            _ => bail!("Anchor printed an unknown part of the description, {kind}: teach xtask/src/idl.rs about it"),
        }
    }
    ensure!(idl.is_object() && !address.is_empty(), "Anchor printed no program: {printed}");
    types.extend(list(idl["types"].take()).into_iter().map(|ty| (name(&ty), ty)));
    idl["address"] = json!(address);
    idl["types"] = types.into_values().collect();
    for (key, values) in [("constants", constants), ("events", events)] {
        idl[key] = values.into();
    }
    idl["errors"] = errors.into();
    for key in ["accounts", "constants", "events", "instructions"] {
        if let Some(values) = idl[key].as_array_mut() {
            values.sort_by_key(name);
        }
    }
    shorten(&mut idl);
    refuse_ambiguity(&idl)?;
    Ok(idl)
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

fn name(value: &Value) -> String {
    value["name"].as_str().unwrap_or_default().to_owned()
}

/// Replaces `crate::module::Type` by `Type` where only one type has that name.
fn shorten(idl: &mut Value) {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    each_string(idl, &mut |text| {
        if let Some((_, short)) = qualified(text) {
            let known = paths.entry(short.to_owned()).or_default();
            if !known.contains(text) {
                known.push(text.clone());
            }
        }
    });
    each_string(idl, &mut |text| {
        if let Some((_, short)) = qualified(text)
            && paths.get(short).is_some_and(|known| known.len() == 1)
        {
            *text = short.to_owned();
        }
    });
}

/// Splits a path of identifiers before its last part.
fn qualified(text: &str) -> Option<(&str, &str)> {
    let identifier = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    text.split("::").all(identifier).then(|| text.rsplit_once("::"))?
}

fn each_string(value: &mut Value, visit: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter_mut().for_each(|value| each_string(value, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|value| each_string(value, visit)),
        _ => {}
    }
}

/// A client tells accounts, events and instructions apart by their discriminators.
fn refuse_ambiguity(idl: &Value) -> Result<()> {
    for key in ["accounts", "events", "instructions"] {
        let items: Vec<(String, Vec<Value>)> =
            list(idl[key].clone()).iter().map(|item| (name(item), list(item["discriminator"].clone()))).collect();
        for (at, (first, discriminator)) in items.iter().enumerate() {
            ensure!(!discriminator.is_empty(), "{first} in {key} has no discriminator");
            let other = items.iter().enumerate().find(|(other, (_, d))| *other != at && d.starts_with(discriminator));
            if let Some((_, (second, _))) = other {
                bail!("the discriminators of {first} and {second} in {key} are ambiguous");
            }
        }
    }
    Ok(())
}

/// The file's text: keys in order whatever serde_json's features are, and a final newline.
fn text(idl: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(&ordered(idl))? + "\n")
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            Value::Object(sorted.into_iter().map(|(key, value)| (key.clone(), ordered(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(ordered).collect(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"
---- address stdout ----
--- IDL begin address ---
Abc
--- IDL end address ---
--- IDL begin event ---
{"event":{"name":"B","discriminator":[2]},"types":[{"name":"a::B","type":{}}]}
--- IDL end event ---
--- IDL begin event ---
{"event":{"name":"A","discriminator":[1]},"types":[]}
--- IDL end event ---
--- IDL begin program ---
{"address":"","metadata":{},"instructions":[{"name":"go","discriminator":[1],"args":[{"type":{"defined":{"name":"a::B"}}}]}],"accounts":[],"types":[]}
--- IDL end program ---
"#;

    #[test]
    fn parts_become_one_description() {
        let idl = assemble(PRINTED).expect("a description");
        assert_eq!(idl["address"], "Abc");
        assert_eq!((name(&idl["events"][0]), name(&idl["events"][1])), ("A".into(), "B".into()));
        assert_eq!(idl["types"][0]["name"], "B");
        assert_eq!(idl["instructions"][0]["args"][0]["type"]["defined"]["name"], "B");
    }

    #[test]
    fn ambiguous_discriminators_are_refused() {
        let error = assemble(&PRINTED.replace("\"discriminator\":[2]", "\"discriminator\":[1,5]")).expect_err("ambiguous");
        assert!(error.to_string().contains("A and B"), "{error}");
    }
}
