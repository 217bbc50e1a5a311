//! The compiler and its settings: one cargo call that leaves the whole program as a single bitcode file.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Crate, library};
use crate::workspace;

/// The release of the compiler that the recipe is made for.
pub const COMPILER: &str = "1.96";
/// Debian's compiler, which has matching library sources; rustup's comes first on PATH.
pub const RUSTC: &str = "/usr/bin/rustc";
/// Its library sources.
pub const SOURCES: &str = "/usr/lib/rustlib/src/rust/library";
/// The name under which rustc calls this program as its linker.
pub const LINKER: &str = "datagalax-sbf-linker";
/// The name under which cargo calls this program around rustc.
pub const COMPILER_ROLE: &str = "datagalax-sbf-rustc";
const TARGET: &str = "sbf-solana-solana";

/// What the compiler leaves.
pub struct Compiled {
    /// The program and all it depends on, as bitcode.
    pub bitcode: PathBuf,
    /// `core` for the chain, which the helpers are compiled against.
    pub core: PathBuf,
    /// What every crate is linked against implicitly.
    pub builtins: PathBuf,
}

/// The compiler's flags: panics abort at once, so that formatting them never reaches the chain; no path of this machine
/// gets into the program.
fn flags(library: &Path, program: &Crate) -> Result<Vec<String>> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let mut flags: Vec<String> =
        ["-Zunstable-options", "-Cpanic=immediate-abort", "-Crelocation-model=static", "-Ctarget-cpu=v2"]
            .map(Into::into)
            .into();
    flags.push(format!("-Clinker={LINKER}"));
    let root = workspace::root()?;
    let mut paths = vec![(cargo_home.as_path(), "/cargo"), (library, "/library"), (&root, "/datagalax")];
    // The same flags for all programs of this repository, or each would rebuild the library that the others have built.
    if !program.workspace.starts_with(&root) {
        paths.push((&program.workspace, "/program"));
    }
    flags.extend(paths.into_iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())));
    Ok(flags)
}

/// Compiles a program crate and everything below it with link-time optimisation.
pub fn compile(program: &Crate) -> Result<Compiled> {
    let version = version()?;
    let library = library::prepare(Path::new(SOURCES), &version)?;
    let target = workspace::sbf_target()?;
    let root = workspace::root()?;
    let roles = roles(&target)?;
    let mut command = cargo_rustc(program, &library)?;
    command
        .env("CARGO_TARGET_DIR", &target)
        .env("RUST_TARGET_PATH", root.join("xtask/sbf"))
        .env("PATH", path_with_linker(&roles)?)
        .env("RUSTC_WRAPPER", roles.join(COMPILER_ROLE))
        .stdout(Stdio::piped());
    let output = command.spawn().context("cannot start cargo")?.wait_with_output()?;
    ensure!(output.status.success(), "the program did not compile (cargo {}); the messages are above", output.status);
    let artifact = |name: &str, extension: &str| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
            .filter_map(|message| message["filenames"].as_array().cloned())
            .flatten()
            .filter_map(|file| file.as_str().map(PathBuf::from))
            .find(|file| file.extension().is_some_and(|e| e == extension))
            .with_context(|| format!("cargo did not report a .{extension} file of {name}"))
    };
    Ok(Compiled {
        bitcode: artifact(&program.library, "so")?,
        core: artifact("core", "rlib")?,
        builtins: artifact("compiler_builtins", "rlib")?,
    })
}

fn cargo_rustc(program: &Crate, library: &Path) -> Result<Command> {
    let mut command = workspace::cargo();
    command
        .args(["rustc", "--release", "--lib", "--crate-type", "cdylib", "--locked", "--target", TARGET])
        .args(["-Zbuild-std=std,panic_abort", "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(program.folder.join("Cargo.toml"))
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_BOOTSTRAP_SYNTHETIC_TARGET", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(library, program)?.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET");
    Ok(command)
}

/// Compiles the helpers with the program's compiler, target and `core`.
pub fn compile_helpers(compiled: &Compiled, to: &Path) -> Result<()> {
    let root = workspace::root()?;
    let status = Command::new(RUSTC)
        .args(["--edition=2024", "--crate-type=lib", "--crate-name=sbf_helpers", "--emit=llvm-bc", "--target", TARGET])
        .args([
            "-Copt-level=1",
            "-Ccodegen-units=1",
            "-Cpanic=immediate-abort",
            "-Ctarget-cpu=v2",
            "-Crelocation-model=static",
        ])
        .args(["-Coverflow-checks=off", "-Zunstable-options", "-Zcrate-attr=no_std", "-Aimproper_ctypes_definitions"])
        .arg(format!("--extern=core={}", compiled.core.display()))
        .arg(format!("--extern=noprelude:compiler_builtins={}", compiled.builtins.display()))
        .arg(format!("--remap-path-prefix={}=/datagalax", root.display()))
        .arg(root.join("xtask/sbf/helpers.rs"))
        .arg("-o")
        .arg(to)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUST_TARGET_PATH", root.join("xtask/sbf"))
        .status()
        .context("cannot start rustc")?;
    ensure!(status.success(), "xtask/sbf/helpers.rs did not compile");
    Ok(())
}

/// The compiler's version text.
fn version() -> Result<String> {
    let output = Command::new(RUSTC).arg("-vV").output().with_context(|| format!("cannot start {RUSTC}"))?;
    ensure!(output.status.success(), "{RUSTC} -vV failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// rustc finds its linker by name: cargo hashes the flags, and a path among them would rebuild everything when it changes.
fn path_with_linker(roles: &Path) -> Result<std::ffi::OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(std::iter::once(roles.to_path_buf()).chain(env::split_paths(&old)))?)
}

/// A folder with this program under the names of the parts it plays.
fn roles(target: &Path) -> Result<PathBuf> {
    let folder = target.join("bin");
    fs::create_dir_all(&folder)?;
    let this = env::current_exe()?;
    for role in [LINKER, COMPILER_ROLE] {
        let link = folder.join(role);
        if fs::read_link(&link).ok().as_ref() != Some(&this) {
            let fresh = folder.join(format!("{role}.{}", std::process::id()));
            symlink(&this, &fresh)?;
            fs::rename(&fresh, &link)?;
        }
    }
    Ok(folder)
}
