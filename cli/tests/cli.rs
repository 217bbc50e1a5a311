//! The command as a person meets it when something is wrong: what it says and its exit status. No network is needed.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// A URL where nobody listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// An image as it must be named.
const PINNED: &str = "busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn datagalax(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_datagalax")).args(arguments).env_clear().env("HOME", home).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn bad_usage_is_64_and_help_is_0() {
    let home = tempfile::tempdir().unwrap();
    let fingerprint = "0".repeat(64);
    let register =
        ["container", "register", "--provider", "0", "--class", "1", "--operator", "11111111111111111111111111111111"];
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["network"],
        &["provider", "stake", "0", "many"],
        &["provider", "stake", "0", "1.0000001"],
        &["checker", "tickets", "0", "151"],
        // A number of tickets or the slots, not both and not neither.
        &["checker", "leave", "0"],
        &["checker", "leave", "0", "--count", "1", "--slots", "3"],
        &["provider", "unstake", "0"],
        &["network", "propose", "--vesting", "3000,3000,90,4000"],
        &["network", "sweep", "--vault", "rewards"],
        &["class", "update", "1", "--active", "maybe"],
        &["container", "maintenance", "11111111111111111111111111111111", "--start", "1", "--length", "28801"],
        &["case", "breach", "11111111111111111111111111111111"],
        &["withdraw", "--account", "nobody"],
        &["epoch", "show", "-1"],
        &["network", "init"],
        &["class", "create", "--id", "65536", "--name", "x", "--weight", "1", "--reference-throughput", "1"],
        &["--output", "xml", "claim"],
        // Nodes that cannot be meant.
        &["claim", "--url", "127.0.0.1:8899"],
        &["claim", "--url", "http://a:1,http://a:1"],
        &["claim", "--url", "http://a:1,http://b:1", "--ws", "ws://a:2"],
        // A fee's floor above its bound.
        &["claim", "--priority-fee", "2", "--max-priority-fee", "1"],
        // Leases: lengths of time and sizes have units, a container or a filter, a file here and one there.
        &["run", "--for", "2", "--", "true"],
        &["run", "--memory", "4", "--", "true"],
        &["rent", "--count", "0", "--", "true"],
        &["rent", "--container", "11111111111111111111111111111111", "--gpus", "2", "--", "true"],
        &["rent", "--container", "11111111111111111111111111111111", "--count", "2", "--", "true"],
        &["run", "--port", "a:0", "--", "true"],
        &["offers", "--vram", "lots"],
        &["lease", "exec", "11111111111111111111111111111111"],
        &["lease", "top-up", "11111111111111111111111111111111"],
        &["lease", "ports", "11111111111111111111111111111111", "web:x"],
        // What belongs to one role only.
        &["doctor", "--container", "11111111111111111111111111111111"],
        &["doctor", "--checker-id", "1"],
        &["doctor", "--days", "0"],
        &["gpu", "verify"],
        // Exactly one source of the fingerprint.
        &[&register[..], &["--endpoint", "http://h:1"]].concat(),
        &[&register[..], &["--endpoint", "http://h:1", "--this-host", "--fingerprint", &fingerprint]].concat(),
        &[&register[..], &["--endpoint", "http://h:1", "--fingerprint", "abc"]].concat(),
    ] {
        let output = datagalax(home.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
    for arguments in [&["--help"][..], &["network", "init", "--help"], &["--version"]] {
        let output = datagalax(home.path(), arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn a_node_that_is_down_is_named_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let url = dead_url();
    for arguments in [
        &["network", "show"][..],
        &["epoch", "show"],
        &["provider", "stake", "0", "1"],
        &["claim"],
        &["withdraw"],
        &["network", "propose", "--ticket-price", "1"],
        &["case", "list"],
        &["offers"],
        &["run", "--", "true"],
        &["rent", "--image", PINNED],
        &["lease", "list", "--user", "11111111111111111111111111111111"],
        &["lease", "bill", "11111111111111111111111111111111"],
        &["lease", "close", "11111111111111111111111111111111"],
    ] {
        let output = datagalax(home.path(), &[&["--url", &url], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.starts_with("error: ") && said.contains(&url) && said.contains("--url"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_workload_that_cannot_be_meant_is_refused_before_the_chain_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let url = dead_url();
    for (arguments, said) in [
        (&["run", "--image", "busybox:latest"][..], "docker buildx imagetools inspect busybox:latest"),
        (&["rent", "--image", "busybox"], "skopeo inspect"),
        (&["run"], "-- python train.py"),
        (&["run", "--secret", "TOKEN=visible", "--", "true"], "TOKEN=@path"),
        (&["run", "--volume", "/data", "--", "true"], "only a workload with an image"),
        (&["run", "--forward", "web", "--", "true"], "--port WEB"),
    ] {
        let output = datagalax(home.path(), &[&["--url", &url], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(said) && !stderr(&output).contains(&url), "{}", stderr(&output));
        assert!(!stderr(&output).contains("visible") && !home.path().join(".datagalax").exists());
    }
}

#[test]
fn this_machine_is_measured_without_a_chain() {
    let home = tempfile::tempdir().unwrap();
    let id = home.path().join("machine-id");
    std::fs::write(&id, "0123456789abcdef0123456789abcdef").unwrap();
    let bench = ["gpu", "bench", "--no-gpu", "--output", "json", "--machine-id", id.to_str().unwrap()];
    let output = datagalax(home.path(), &[&bench[..], &["--offline"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = &value["figures"];
    assert!(figures["throughput_of_a_device"].as_u64().unwrap() > 0, "{figures}");
    assert_eq!((&figures["gpu"], &figures["units"]), (&false.into(), &1.into()));
    assert_eq!(figures["fingerprint"].as_str().unwrap().len(), 64);
    assert!(stderr(&output).contains("computing"), "progress is shown");
    // With a chain the classes are read first: nobody waits for figures that cannot be compared.
    let output = datagalax(home.path(), &[&bench[..], &["--url", &dead_url()]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--offline") && !stderr(&output).contains("computing"), "{}", stderr(&output));
}

#[test]
fn the_doctor_names_each_fault_by_its_id_and_fails() {
    let home = tempfile::tempdir().unwrap();
    let url = dead_url();
    let state = home.path().to_str().unwrap();
    let doctor = ["doctor", "--agent", "--keeper", "--url", &url, "--output", "json", "--state-dir", state];
    let output = datagalax(home.path(), &doctor);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let states: Vec<(&str, &str)> = value["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["id"].as_str().unwrap(), check["state"].as_str().unwrap()))
        .collect();
    for expected in [
        ("rpc.answers", "failed"),
        ("clock.offset", "skipped"),
        ("program.initialised", "skipped"),
        ("key.readable", "failed"),
        ("agent", "skipped"),
        ("keeper", "skipped"),
    ] {
        assert!(states.contains(&expected), "{expected:?} in {states:?}");
    }
    let advised = |check: &serde_json::Value| check["state"] == "ok" || check["advice"].is_string();
    assert!(value["checks"].as_array().unwrap().iter().all(advised), "{value}");
    assert_eq!(value["summary"]["failed"], 2);
}

#[test]
fn keys_that_cannot_be_used_are_named_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let url = dead_url();
    let create = |more: &[&str]| datagalax(home.path(), &[&["mint", "create", "--url", &url], more].concat());
    let missing = create(&[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains(".config/solana/id.json") && stderr(&missing).contains("solana-keygen new"));

    let file = home.path().join("key.json");
    let path = file.display().to_string();
    std::fs::write(&file, "[1,2,3]").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(stderr(&create(&["--keypair", &path])).contains("chmod 600"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(stderr(&create(&["--keypair", &path])).contains("64 numbers"));
}
