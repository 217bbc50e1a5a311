//! The standard library for the chain: a copy of the compiler's library sources, taught that `target_os = "solana"` exists.
//! Nothing added here runs on chain: a program brings its own allocator, and what it never calls is dropped at the link.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

/// Lines to add below a line, in files under `std/src/sys`.
const ADDITIONS: [(&str, &str, &str); 4] = [
    ("io/error/mod.rs", r#"target_os = "zkvm","#, r#"target_os = "solana","#),
    ("thread_local/mod.rs", r#"target_os = "zkvm","#, r#"target_os = "solana","#),
    ("random/mod.rs", r#"target_os = "vexos","#, r#"target_os = "solana","#),
    ("alloc/mod.rs", r#"target_arch = "wasm64","#, r#"target_arch = "bpf","#),
];
const ALLOCATOR: &str = r#"use crate::alloc::{GlobalAlloc, Layout, System};

#[stable(feature = "alloc_system_type", since = "1.28.0")]
unsafe impl GlobalAlloc for System {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        crate::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
"#;
const ALLOCATOR_MODULE: &str = "    target_os = \"solana\" => {\n        mod solana;\n    }\n}\n";

/// The patched copy for a compiler, made if it is not there yet. `version` is the compiler's whole version text.
pub fn prepare(sources: &Path, version: &str) -> Result<PathBuf> {
    let release = version.split_whitespace().nth(1).unwrap_or("unknown");
    // The key covers what is patched too, so that a changed recipe gets a new copy.
    let mut hasher = DefaultHasher::new();
    (version, ADDITIONS, ALLOCATOR, ALLOCATOR_MODULE).hash(&mut hasher);
    let cache = cache_folder()?;
    let copy = cache.join(format!("std-{release}-{:016x}", hasher.finish()));
    if copy.is_dir() {
        return Ok(copy);
    }
    eprintln!("Preparing the standard library of rustc {release} for the chain in {}", copy.display());
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Built aside and renamed: a copy that exists is complete, and of two builds at once one wins.
    let building = tempfile::Builder::new().prefix(".building-").tempdir_in(&cache)?;
    let library = building.path().join("library");
    copy_folder(sources, &library)?;
    patch(&library)?;
    match fs::rename(&library, &copy) {
        Err(error) if !copy.is_dir() => Err(error).with_context(|| format!("cannot create {}", copy.display())),
        _ => Ok(copy),
    }
}

fn cache_folder() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("datagalax"))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        // Follows links: Debian links some folders of its vendored sources.
        if fs::metadata(entry.path())?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn patch(library: &Path) -> Result<()> {
    let sys = library.join("std/src/sys");
    for (file, needle, addition) in ADDITIONS {
        let path = sys.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, add_below(&text, needle, addition).with_context(|| unknown_layout(&path))?)?;
    }
    let path = sys.join("alloc/mod.rs");
    let text = fs::read_to_string(&path)?;
    let Some(text) = text.trim_end().strip_suffix('}') else { bail!(unknown_layout(&path)) };
    fs::write(&path, format!("{text}{ALLOCATOR_MODULE}"))?;
    fs::write(sys.join("alloc/solana.rs"), ALLOCATOR)?;
    Ok(())
}

fn unknown_layout(path: &Path) -> String {
    format!(
        "{} does not look as in rustc {}: adapt xtask/src/program/library.rs to this compiler, or install that one",
        path.display(),
        super::target::COMPILER
    )
}

/// Adds a line below each line that is the needle, with its indentation.
fn add_below(text: &str, needle: &str, addition: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut found = false;
    for line in text.lines() {
        out.push_str(line);
        out.push('\n');
        if line.trim() == needle {
            found = true;
            out.push_str(&line[..line.len() - line.trim_start().len()]);
            out.push_str(addition);
            out.push('\n');
        }
    }
    ensure!(found, "no line {needle}");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_with_their_indentation() {
        let got = add_below("any(\n    a,\n    b,\n)\n", "a,", "c,").expect("found");
        assert_eq!(got, "any(\n    a,\n    c,\n    b,\n)\n");
        assert!(add_below("any()", "a,", "c,").is_err());
    }
}
