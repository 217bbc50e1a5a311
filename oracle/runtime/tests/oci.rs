//! OCI containers in a real engine of these tests' own.

mod engine;
mod registry;
mod suite;

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};
use datagalax_runtime::{End, Id, Port, Runtime, RuntimeError, Status, Workload, oci::Containers};
use suite::{GRACE, PATIENCE, Place, Stage, finish};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

struct Host {
    folder: TempDir,
    image: String,
}

/// A runtime and a lease that no other test has.
async fn place() -> Place<Host> {
    place_with(&engine::engine().await.image).await
}

async fn place_with(image: &str) -> Place<Host> {
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let at = PLACES.fetch_add(1, Ordering::SeqCst);
    let stage = Host { folder: tempfile::tempdir().unwrap(), image: image.to_owned() };
    Place { runtime: stage.open().await, stage, id: format!("Lease{at}").parse().unwrap() }
}

fn container(id: &Id) -> String {
    format!("datagalax-{id}")
}

impl Stage for Host {
    type Runtime = Containers;

    async fn open(&self) -> Containers {
        Containers::open(&self.folder.path().join("leases"), &engine::engine().await.socket).await.unwrap()
    }

    fn workload(&self, script: &str) -> Workload {
        Workload { image: Some(self.image.clone()), ..suite::workload(script) }
    }

    async fn processes(&self, id: &Id) -> u64 {
        let docker = &engine::engine().await.docker;
        let inspected = docker.inspect_container(&container(id), None).await.ok();
        let Some(pid) = inspected.and_then(|container| container.state?.pid).filter(|pid| *pid > 0) else { return 0 };
        // Whoever is in the container's namespace of processes.
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = namespace(&pid.to_string()) else { return 0 };
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| namespace(pid).as_ref() == Some(&own)).count() as u64
    }

    async fn traces(&self, id: &Id) -> Vec<String> {
        let docker = &engine::engine().await.docker;
        let filters = HashMap::from([("name", vec![format!("{}$", container(id)), format!("{}-", container(id))])]);
        let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let mut traces: Vec<String> = vec![];
        traces.extend(docker.list_containers(Some(containers)).await.unwrap().into_iter().filter_map(|found| found.id));
        traces.extend(docker.list_networks(Some(networks)).await.unwrap().into_iter().filter_map(|found| found.name));
        let volumes = docker.list_volumes(Some(volumes)).await.unwrap().volumes;
        traces.extend(volumes.unwrap_or_default().into_iter().map(|found| found.name));
        let folders = fs::read_dir(self.folder.path().join("leases")).unwrap().flatten();
        traces.extend(folders.map(|entry| entry.path().display().to_string()));
        traces
    }

    fn hog(&self) -> &'static str {
        // `tail` keeps a line without an end in memory.
        "head -c 400000000 /dev/zero | tail -n 1 > /dev/null"
    }
}

suite!(place(), serve: "nc -ll -p $PORT_HTTP -e echo served");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb() {
    suite::a_fork_bomb(place().await).await;
}

#[tokio::test]
async fn it_is_fenced() {
    let place = place().await;
    let workload = Workload {
        volumes: vec!["/data".into()],
        environment: [("SECRET".into(), "do not tell".into())].into(),
        ports: vec![Port { name: "A".into(), number: 80 }, Port { name: "B".into(), number: 0 }],
        ..place.stage.workload("echo $PORT_A $PORT_B up; sleep 600")
    };
    place.runtime.start(&place.id, &workload).await.unwrap();
    place.says("80 20000 up").await;
    let (_, status) = place.exec("cat /proc/self/status /proc/1/status").await;
    assert_eq!(status.matches("CapEff:\t0000000000000000").count(), 2, "no capabilities: {status}");
    assert_eq!(status.matches("CapBnd:\t0000000000000000").count(), 2, "none to be had: {status}");
    assert_eq!(status.matches("Seccomp:\t2").count(), 2, "the filter of system calls: {status}");
    assert_eq!(status.matches("NoNewPrivs:\t1").count(), 2, "{status}");
    for read_only in ["/x", "/etc/x", "/bin/x", "/proc/sys/kernel/hostname"] {
        let (status, said) = place.exec(&format!("echo x > {read_only}")).await;
        assert!(status != 0 && said.to_lowercase().contains("read-only"), "{read_only}: {said}");
    }
    for writable in ["/tmp/x", "/workspace/x", "/data/x", "/dev/shm/x", "x"] {
        assert_eq!(place.exec(&format!("echo x > {writable}")).await, (0, String::new()), "{writable}");
    }
    let (_, seen) = place.exec("pwd; echo $HOME; ls /sys/class/net; ls /dev /var/run /run 2>&1; ps").await;
    assert!(seen.starts_with("/workspace\n/workspace\neth0\nlo\n"), "a network of its own: {seen}");
    assert!(!seen.contains("docker.sock") && !seen.contains("dockerd") && !seen.contains("nvidia"), "{seen}");
    // As the engine has it.
    let docker = &engine::engine().await.docker;
    let inspected = docker.inspect_container(&container(&place.id), None).await.unwrap();
    let host = inspected.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap, host.pids_limit), (Some(256 << 20), Some(256 << 20), Some(40)), "no swap");
    assert_eq!((host.nano_cpus, host.privileged, host.readonly_rootfs), (Some(1_500_000_000), Some(false), Some(true)));
    assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
    assert!(
        host.port_bindings.unwrap_or_default().is_empty() && host.binds.unwrap_or_default().is_empty(),
        "nothing of the host's"
    );
    assert!(inspected.mounts.unwrap().iter().all(|mount| mount.name.is_some()), "every mount is a volume");
    // What everybody who may list containers sees.
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let listed = docker.list_containers(Some(options)).await.unwrap();
    let shown = format!("{listed:?}");
    assert!(shown.contains(place.id.as_str()) && !shown.contains("do not tell"), "{shown}");
    place.stop().await;
}

#[tokio::test]
async fn one_lease_does_not_reach_another() {
    let (here, there) = (place().await, place().await);
    here.start("nc -ll -p $PORT_HTTP -e echo served").await;
    there.start("sleep 600").await;
    let docker = &engine::engine().await.docker;
    let inspected = docker.inspect_container(&container(&here.id), None).await.unwrap();
    let networks = inspected.network_settings.unwrap().networks.unwrap();
    let address = networks.into_values().next().unwrap().ip_address.unwrap();
    let serves = async {
        while here.runtime.connect(&here.id, "HTTP").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, serves).await.expect("the host reaches it");
    let ask = format!("nc -w 2 {address} 20000 < /dev/null");
    let (status, said) = there.exec(&ask).await;
    assert!(status != 0 && !said.contains("served"), "{said}");
    // Itself it does reach: the question is sound.
    assert_eq!(here.exec(&ask).await, (0, "served\n".into()));
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn traffic_is_counted() {
    let place = place().await;
    assert_eq!(place.runtime.traffic(&place.id).await.unwrap(), None);
    place.start("nc -ll -p $PORT_HTTP -e head -c 1000000 /dev/zero").await;
    let read = async {
        loop {
            if let Ok(mut connected) = place.runtime.connect(&place.id, "HTTP").await {
                return tokio::io::copy(&mut connected, &mut tokio::io::sink()).await.unwrap();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, read).await.expect("it serves"), 1_000_000);
    let bytes = place.runtime.traffic(&place.id).await.unwrap().unwrap();
    assert!((1_000_000..2_000_000).contains(&bytes), "{bytes}");
    place.stop().await;
}

#[tokio::test]
async fn an_image_with_a_user_of_its_own_can_write_where_it_may() {
    let place = place_with(&engine::engine().await.image_of_app).await;
    let workload = Workload { volumes: vec!["/data".into()], ..place.stage.workload("id -u; id -g; echo up; sleep 600") };
    place.runtime.start(&place.id, &workload).await.unwrap();
    assert_eq!(place.says("up\n").await, "1000\n1001\nup\n");
    for writable in ["/workspace/x", "/data/x", "/asked/x", "/tmp/x"] {
        assert_eq!(place.exec(&format!("echo x > {writable}")).await, (0, String::new()), "{writable}");
    }
    place.runtime.copy_in(&place.id, "a/b", &mut "in".as_bytes()).await.unwrap();
    assert_eq!(place.exec("stat -c '%u %g' a a/b; echo more >> a/b").await, (0, "1000 1001\n1000 1001\n".into()));
    place.stop().await;
}

#[tokio::test]
async fn links_lead_nowhere_else() {
    let place = place().await;
    place.start("ln -s /etc/passwd link; ln -s /etc folder; echo up; sleep 600").await;
    place.says("up").await;
    let (status, said) = finish(place.runtime.copy_out(&place.id, "link").await.unwrap()).await;
    assert!(status == 1 && said.contains("symbolic link"), "{status}: {said}");
    // The link is replaced, not followed.
    place.runtime.copy_in(&place.id, "link", &mut "mine".as_bytes()).await.unwrap();
    assert_eq!(place.exec("cat link; grep -c root /etc/passwd").await, (0, "mine1\n".into()));
    place.stop().await;
}

#[tokio::test]
async fn what_the_engine_lost_is_lost() {
    let place = place().await;
    place.start("echo run; ls; echo x > file; echo there; sleep 600").await;
    place.says("there\n").await;
    let docker = &engine::engine().await.docker;
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&container(&place.id), Some(options)).await.unwrap();
    assert_eq!(place.end().await, End::Lost);
    // It runs again, with its files, and its output goes on.
    place.start("echo run; ls; echo x > file; echo there; sleep 600").await;
    assert_eq!(place.says("file\nthere\n").await, "run\nthere\nrun\nfile\nthere\n");
    place.stop().await;
    // Records that are gone: what is in the engine is found by its labels, and can be ended.
    place.start("sleep 600").await;
    fs::remove_dir_all(place.stage.folder.path().join("leases").join(place.id.as_str())).unwrap();
    let again = place.stage.open().await;
    assert_eq!(again.list().await.unwrap(), std::slice::from_ref(&place.id));
    again.stop(&place.id, GRACE).await.unwrap();
    place.stop().await;
}

#[tokio::test]
async fn a_start_that_was_cut_off_is_finished_or_done_again() {
    let place = place().await;
    let workload = place.stage.workload("echo up; sleep 600");
    let began = place.stage.folder.path().join("leases").join(place.id.as_str()).join("began.json");
    place.runtime.start(&place.id, &workload).await.unwrap();
    let Place { stage, runtime, id } = place;
    // As if the agent had ended when the container ran and nothing was noted yet.
    drop(runtime);
    fs::remove_file(&began).unwrap();
    let place = Place { runtime: stage.open().await, stage, id };
    place.runtime.start(&place.id, &workload).await.unwrap();
    assert!(began.exists());
    assert_eq!(place.says("up\n").await, "up\n");
    // As if it had ended between the network and the container.
    let Place { stage, runtime, id } = place;
    drop(runtime);
    let docker = &engine::engine().await.docker;
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&container(&id), Some(options)).await.unwrap();
    fs::remove_file(&began).unwrap();
    let place = Place { runtime: stage.open().await, stage, id };
    assert_eq!(place.runtime.status(&place.id).await.unwrap(), Status::Absent);
    place.runtime.start(&place.id, &workload).await.unwrap();
    assert_eq!(place.exec("echo here").await, (0, "here\n".into()));
    place.stop().await;
}

#[tokio::test]
async fn what_this_host_does_not_run_is_refused_by_name() {
    let place = place().await;
    let with = |change: &dyn Fn(&mut Workload)| {
        let mut workload = place.stage.workload("true");
        change(&mut workload);
        workload
    };
    for (workload, said) in [
        (with(&|w| w.image = None), "not plain processes"),
        (with(&|w| w.gpus = true), "nvidia-container-toolkit"),
        (with(&|w| w.limits.disk = 100_000), "on disk"),
    ] {
        let error = place.runtime.prepare(&place.id, &workload, &|_| {}).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Refused(why) if why.contains(said)), "{error}");
        let error = place.runtime.start(&place.id, &workload).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Refused(why) if why.contains(said)), "{error}");
    }
    let unpinned = with(&|w| w.image = Some("a/../b@sha256:0".into()));
    assert!(matches!(place.runtime.start(&place.id, &unpinned).await, Err(RuntimeError::Invalid(_))));
    assert_eq!(place.runtime.status(&place.id).await.unwrap(), Status::Absent);
    // The engine's own refusal of a workload.
    let volume = with(&|w| w.volumes = vec!["/proc/x".into()]);
    let error = place.runtime.start(&place.id, &volume).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::NotStarted(why) if why.contains("/proc")), "{error}");
    let status = place.runtime.status(&place.id).await.unwrap();
    assert!(matches!(status, Status::Ended(End::NotStarted(_))), "{status:?}");
    place.stop().await;
}

#[tokio::test]
async fn an_image_is_pulled_once_verified_and_removed_with_its_last_lease() {
    let registry = registry::serve(engine::files()).await;
    let docker = &engine::engine().await.docker;
    let place = place_with(&registry.image).await;
    let second: Id = "Second".parse().unwrap();
    let mut small = place.stage.workload("true");
    small.limits.disk = 1_000_000;
    let error = place.runtime.prepare(&place.id, &small, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Refused(why) if why.contains("on disk")), "{error}");
    assert!(docker.inspect_image(&registry.image).await.is_err(), "one that is too large does not stay");
    let told = Mutex::new(Vec::new());
    let workload = place.stage.workload("echo from the registry; sleep 600");
    place.runtime.prepare(&place.id, &workload, &|step| told.lock().unwrap().push(step)).await.unwrap();
    assert!(told.lock().unwrap()[0].contains("pulling"), "{told:?}");
    let asked = registry.asked();
    assert!(asked > 0);
    place.runtime.start(&place.id, &workload).await.unwrap();
    place.says("from the registry").await;
    place.runtime.start(&second, &workload).await.unwrap();
    assert_eq!(registry.asked(), asked, "it is there: nobody is asked for it");
    place.runtime.stop(&second, Duration::ZERO).await.unwrap();
    assert!(docker.inspect_image(&registry.image).await.is_ok(), "the other lease has it");
    place.stop().await;
    assert!(docker.inspect_image(&registry.image).await.is_err(), "nobody needs it any more");
}

#[tokio::test]
async fn an_image_that_is_not_there_or_another_is_told() {
    let registry = registry::serve(engine::files()).await;
    let place = place().await;
    let (name, digest) = registry.image.split_once("@sha256:").unwrap();
    let turned: String = digest.chars().rev().collect();
    let missing = format!("{name}@sha256:{turned}");
    // Answered with what has another digest.
    let other = format!("{}/other@sha256:{turned}", name.split('/').next().unwrap());
    for image in [missing, other] {
        let workload = Workload { image: Some(image.clone()), ..place.stage.workload("true") };
        let error = place.runtime.prepare(&place.id, &workload, &|_| {}).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Image { image: named, .. } if *named == image), "{error}");
    }
    // The beginning of an image's id is a name to the engine, and no pin.
    let (_, id) = place.stage.image.split_once(':').unwrap();
    let other_end = if id.ends_with('0') { '1' } else { '0' };
    let near = format!("{name}@sha256:{}{other_end}", &id[..63]);
    let workload = Workload { image: Some(near), ..place.stage.workload("true") };
    let error = place.runtime.start(&place.id, &workload).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Image { .. }), "{error}");
    place.stop().await;
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let open = async || Containers::open(&folder.path().join("leases"), &socket).await.err().unwrap().to_string();
    let none = open().await;
    assert!(none.contains("systemctl status docker") && none.contains("docker.sock"), "{none}");
    // A socket on which nobody answers any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let dead = open().await;
    assert!(dead.contains("systemctl status docker") && dead.contains("docker.sock"), "{dead}");
    assert!(Path::new(&socket).exists());
    let place = place().await;
    place.start("sleep 600").await;
    let exec = place.runtime.exec(&place.id, &["/nonexistent".into()]).await.unwrap();
    let (status, said) = finish(exec).await;
    assert!(status != 0 && said.contains("no such file"), "{status}: {said}");
    place.stop().await;
}
