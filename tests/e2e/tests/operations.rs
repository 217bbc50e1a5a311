//! The units, the alerts and the operator's guide say what the daemons really have.
//!
//! `DATAGALAX_UPDATE_DOCS=1 cargo test -p datagalax-e2e --test operations` writes the guide's tables of metrics anew.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};

const DAEMONS: [&str; 4] = ["agent", "checker", "keeper", "relay"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

fn binary(daemon: &str) -> Result<PathBuf> {
    // As `cargo xtask test` says, or where cargo put this test.
    let beside = || Some(env::current_exe().ok()?.ancestors().nth(2)?.to_owned());
    let folder = env::var_os("DATAGALAX_BIN_DIR").map(PathBuf::from).or_else(beside).context("no folder of binaries")?;
    let path = folder.join(format!("datagalax-{daemon}"));
    ensure!(path.exists(), "{} is not built: cargo build -p datagalax-{daemon}", path.display());
    Ok(path)
}

/// What a daemon prints when it is asked for something that needs no settings.
fn print(daemon: &str, option: &str) -> Result<String> {
    let output = Command::new(binary(daemon)?).env_clear().arg(option).output()?;
    ensure!(output.status.success(), "datagalax-{daemon} {option}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Lines of a unit as key and value.
fn assignments(unit: &str) -> impl Iterator<Item = (&str, &str)> {
    unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

/// Names of our metrics in a text, and of the process's.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("datagalax_") || word.starts_with("process_"))
        .collect()
}

/// A histogram is queried by its parts.
fn known(name: &str, metrics: &BTreeSet<String>) -> bool {
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
    [name].into_iter().chain(parts).any(|name| metrics.contains(name))
}

fn all_metrics() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for daemon in DAEMONS {
        let printed = print(daemon, "--print-metrics")?;
        names.extend(printed.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned));
    }
    Ok(names)
}

#[test]
fn units_use_options_that_the_daemons_have() -> Result<()> {
    for daemon in DAEMONS {
        let unit = text(&format!("deploy/systemd/datagalax-{daemon}.service"))?;
        let help = print(daemon, "--help")?;
        let mut variables = 0;
        // Also what is commented out for the operator to uncomment.
        for line in unit.lines().map(|line| line.trim_start_matches('#')) {
            if let Some(command) = line.strip_prefix("ExecStart=") {
                let options = command.split_whitespace().filter(|word| word.starts_with("--"));
                for option in options {
                    ensure!(help.contains(option), "datagalax-{daemon} has no option {option}");
                }
                ensure!(command.starts_with(&format!("/usr/local/bin/datagalax-{daemon} ")), "{command}");
            }
            if let Some((variable, _)) = line.strip_prefix("Environment=").and_then(|line| line.split_once('=')) {
                ensure!(help.contains(&format!("[env: {variable}=")), "datagalax-{daemon} knows no variable {variable}");
                variables += 1;
            }
        }
        ensure!(variables > 0, "{daemon}: no variables were looked at");
        // A credential that is named is one that is loaded.
        let loaded: Vec<&str> =
            unit.lines().filter_map(|line| line.split_once("LoadCredential=")?.1.split(':').next()).collect();
        let named: Vec<&str> = unit.lines().filter_map(|line| Some(line.split_once("=%d/")?.1)).collect();
        ensure!(loaded == named, "{daemon}: loaded {loaded:?}, named {named:?}");
    }
    Ok(())
}

#[test]
fn units_are_hardened() -> Result<()> {
    for daemon in DAEMONS {
        let unit = text(&format!("deploy/systemd/datagalax-{daemon}.service"))?;
        let has = |key: &str, value: &str| assignments(&unit).any(|found| found == (key, value));
        for (key, value) in [
            ("Type", "notify"),
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("Restart", "on-failure"),
            ("RestartPreventExitStatus", "64"),
            ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
            ("SystemCallFilter", "@system-service"),
            ("UMask", "0077"),
        ] {
            ensure!(has(key, value), "{daemon}: no {key}={value}");
        }
        for key in ["MemoryMax", "TasksMax", "WatchdogSec", "CapabilityBoundingSet", "LimitNOFILE"] {
            ensure!(assignments(&unit).any(|(found, _)| found == key), "{daemon}: no {key}");
        }
        // Only the agent needs devices, and only the cards.
        let devices: Vec<&str> =
            assignments(&unit).filter(|(key, _)| *key == "DeviceAllow").map(|(_, value)| value).collect();
        let expected: &[&str] = if daemon == "agent" { &["char-nvidia* rw"] } else { &[] };
        ensure!(devices == expected && (daemon == "agent") != has("PrivateDevices", "yes"), "{daemon}: {devices:?}");
    }
    Ok(())
}

#[test]
fn systemd_takes_the_units() -> Result<()> {
    let analyze = |arguments: &[&str], unit: &Path| -> Option<Output> {
        // Not on every machine; what can be checked without it is checked above.
        Command::new("systemd-analyze").args(arguments).arg(unit).output().ok()
    };
    let folder = tempfile::tempdir()?;
    for daemon in DAEMONS {
        let name = format!("datagalax-{daemon}.service");
        let unit = text(&format!("deploy/systemd/{name}"))?;
        let path = folder.path().join(&name);
        // Where the program is installed there is none here.
        fs::write(&path, unit.replace(&format!("/usr/local/bin/datagalax-{daemon}"), "/bin/true"))?;
        let Some(verdict) = analyze(&["verify", "--man=no"], &path) else {
            println!("no systemd-analyze here: the units were not given to it");
            return Ok(());
        };
        let said = String::from_utf8_lossy(&verdict.stderr).into_owned() + &String::from_utf8_lossy(&verdict.stdout);
        // An unknown key is a warning, not a failure.
        ensure!(verdict.status.success() && said.trim().is_empty(), "{name}: {said}");
        // Of 10; a unit without hardening is at 9.6.
        let exposure = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=20"], &path);
        let exposure = exposure.context("systemd-analyze was there a moment ago")?;
        ensure!(exposure.status.success(), "{name} is exposed: {}", String::from_utf8_lossy(&exposure.stdout));
    }
    Ok(())
}

/// The guide's table of a daemon's metrics; `shared` are left out, or alone in it.
fn table(printed: &str, shared: &BTreeSet<String>, only_shared: bool) -> Result<String> {
    let mut table = "| name | type | what it says |\n|---|---|---|\n".to_owned();
    for line in printed.lines() {
        let mut parts = line.split('\t');
        let (Some(name), Some(kind), Some(help)) = (parts.next(), parts.next(), parts.next()) else {
            anyhow::bail!("--print-metrics printed `{line}`");
        };
        if shared.contains(name) == only_shared {
            table += &format!("| `{name}` | {kind} | {} |\n", help.replace('|', "\\|"));
        }
    }
    Ok(table)
}

#[test]
fn the_guide_s_tables_of_metrics_are_those_of_the_daemons() -> Result<()> {
    const GUIDE: &str = "docs/operations.md";
    let printed: Vec<String> = DAEMONS.iter().map(|daemon| print(daemon, "--print-metrics")).collect::<Result<_>>()?;
    let names = |text: &String| -> BTreeSet<String> {
        text.lines().map(|l| l.split('\t').next().unwrap_or_default().into()).collect()
    };
    let shared = printed.iter().map(names).reduce(|a, b| &a & &b).unwrap_or_default();
    ensure!(shared.contains("datagalax_ready"), "{shared:?}");
    let guide = text(GUIDE)?;
    let mut updated = guide.clone();
    let tables = [("every daemon", &printed[0], true)].into_iter();
    for (of, printed, only_shared) in
        tables.chain(DAEMONS.into_iter().zip(&printed).map(|(of, printed)| (of, printed, false)))
    {
        let (begin, end) = (format!("<!-- metrics of {of}: written by the test `operations` -->\n"), "<!-- end -->\n");
        let start =
            updated.find(&begin).with_context(|| format!("{GUIDE} has no place for the metrics of {of}"))? + begin.len();
        let length = updated[start..].find(end).with_context(|| format!("{GUIDE}: the metrics of {of} have no end"))?;
        updated.replace_range(start..start + length, &table(printed, &shared, only_shared)?);
    }
    if env::var_os("DATAGALAX_UPDATE_DOCS").is_some() {
        fs::write(root().join(GUIDE), &updated)?;
    }
    ensure!(
        text(GUIDE)? == updated,
        "{GUIDE} is stale: run DATAGALAX_UPDATE_DOCS=1 cargo test -p datagalax-e2e --test operations"
    );
    Ok(())
}

#[test]
fn alerts_and_guide_name_metrics_that_exist() -> Result<()> {
    let metrics = all_metrics()?;
    for path in ["deploy/prometheus/alerts.yml", "docs/operations.md"] {
        let text = text(path)?;
        let names = metric_names(&text);
        ensure!(!names.is_empty(), "{path} names no metric");
        for name in names {
            ensure!(known(name, &metrics), "{path} names the metric {name}, which no daemon has");
        }
    }
    Ok(())
}

#[test]
fn the_guide_says_what_to_do_for_every_reason() -> Result<()> {
    let guide = text("docs/operations.md")?;
    for daemon in DAEMONS {
        let section = guide.split_once(&format!("### Not ready: {daemon}\n")).map(|(_, rest)| rest);
        let section = section.with_context(|| format!("the guide has no section `Not ready: {daemon}`"))?;
        let section = section.split("\n#").next().unwrap_or_default();
        let mut sources = vec![root().join(format!("oracle/{daemon}/src"))];
        let mut topics = BTreeSet::new();
        while let Some(path) = sources.pop() {
            if path.is_dir() {
                sources.extend(fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?);
                continue;
            }
            let source = fs::read_to_string(&path)?;
            // Topics are literals at the call.
            let calls = source.split("health.set(").skip(1);
            topics.extend(calls.filter_map(|call| Some(call.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned())));
        }
        for topic in &topics {
            ensure!(
                section.contains(&format!("| `{topic}` |")),
                "the guide does not say what to do when {daemon} is not ready for `{topic}`"
            );
        }
    }
    Ok(())
}

#[test]
fn the_guide_names_tests_that_exist() -> Result<()> {
    let guide = text("docs/operations.md")?;
    let (_, section) = guide.split_once("## Failures that are tested\n").context("the guide has no such section")?;
    let mut tests = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let mut source = None;
        for quoted in shown.split('`').skip(1).step_by(2) {
            if quoted.ends_with(".rs") {
                source = Some(text(quoted)?);
                continue;
            }
            let source = source.as_ref().with_context(|| format!("`{quoted}` comes before its file"))?;
            ensure!(source.contains(&format!("fn {quoted}(")), "the guide names the test {quoted}, which is not there");
            tests += 1;
        }
    }
    ensure!(tests > 10, "only {tests} tests were found in the guide");
    Ok(())
}
