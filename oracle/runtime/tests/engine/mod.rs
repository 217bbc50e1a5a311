//! A container engine for these tests alone: a dockerd with folders, a socket and a containerd namespace of its own, beside
//! whatever other runs on the machine, and an image made of busybox.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, Docker, body_full, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::{sync::OnceCell, time::sleep};

const DOCKERD: &str = "/usr/sbin/dockerd";
const BUSYBOX: &str = "/bin/busybox";
/// What the image has of busybox.
const APPLETS: [&str; 24] = [
    "sh", "cat", "cut", "dirname", "echo", "env", "false", "grep", "head", "id", "ln", "ls", "mkdir", "nc", "ps", "pwd",
    "rm", "setsid", "sleep", "stat", "tail", "touch", "true", "wget",
];
/// Starts it, and ends it with everything when the tests' process, which holds the pipe, ends in whatever way.
const KEEPER: &str = r#"
"$DOCKERD" --data-root "$DIR/data" --exec-root "$DIR/exec" --pidfile "$DIR/pid" --host "unix://$DIR/docker.sock" \
    --storage-driver "$DRIVER" --bridge none --containerd-namespace "$NAME" --containerd-plugins-namespace "$NAME-plugins" \
    --default-address-pool base=10.213.0.0/16,size=24 </dev/null >>"$DIR/log" 2>&1 &
daemon=$!
read _
kill $daemon
wait $daemon
rm -rf "$DIR"
"#;

/// The engine.
pub struct Engine {
    pub docker: Docker,
    pub socket: PathBuf,
    /// An image of busybox, pinned.
    pub image: String,
    /// The same, made to run as the user `app`, 1000 of group 1001, and to have a volume.
    pub image_of_app: String,
}

static ENGINE: OnceCell<Engine> = OnceCell::const_new();

pub async fn engine() -> &'static Engine {
    ENGINE.get_or_init(begin).await
}

/// A file of an archive.
fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, bytes).unwrap();
}

/// The files of the image.
pub fn files() -> Vec<u8> {
    let busybox = fs::read(BUSYBOX).unwrap_or_else(|error| {
        panic!("{BUSYBOX}: {error}: these tests make an image of it; run `cargo xtask setup` (package busybox-static)")
    });
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, "bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    add(&mut archive, "etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n");
    add(&mut archive, "etc/group", 0o644, b"root:x:0:\napp:x:1001:\n");
    archive.into_inner().unwrap()
}

async fn begin() -> Engine {
    assert!(
        Path::new(DOCKERD).exists(),
        "there is no {DOCKERD}: run `cargo xtask setup` as root (package docker.io); these tests start an engine of their own"
    );
    // Not under the build folder: a socket's path is at most 107 bytes.
    let mut tried = String::new();
    for driver in ["overlay2", "vfs"] {
        let folder = tempfile::Builder::new().prefix("datagalax-engine-").tempdir_in("/tmp").unwrap().keep();
        match start(&folder, driver).await {
            Ok(docker) => {
                let image = import(&docker, vec![]).await;
                let image_of_app = import(&docker, vec!["USER app".into(), "VOLUME /asked".into()]).await;
                return Engine { docker, socket: folder.join("docker.sock"), image, image_of_app };
            }
            Err(log) => tried += &format!("\nwith the storage driver {driver}, its log ends with:\n{log}"),
        }
    }
    panic!("{DOCKERD} does not come up (these tests need root, iptables and cgroups):{tried}");
}

/// Starts an engine; or the end of its log.
#[expect(clippy::zombie_processes, reason = "the keeper outlives this process")]
async fn start(folder: &Path, driver: &str) -> Result<Docker, String> {
    let log = folder.join("log");
    File::create(&log).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER]).env("DIR", folder).env("DRIVER", driver).env("NAME", name).env("DOCKERD", DOCKERD);
    let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pipe = keeper.stdin.take().unwrap();
    let socket = folder.join("docker.sock");
    // Half a minute on an idle machine would be ten times what it takes.
    for _ in 0..600 {
        if socket.exists()
            && let Ok(docker) = Docker::connect_with_unix(socket.to_str().unwrap(), 120, API_DEFAULT_VERSION)
            && let Ok(docker) = docker.negotiate_version().await
        {
            // Held until this process ends.
            std::mem::forget(pipe);
            return Ok(docker);
        }
        if keeper.try_wait().unwrap().is_some() {
            break;
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        if said.contains("failed to start daemon") || said.contains("failed to start containerd") {
            drop(pipe);
            let lines: Vec<&str> = said.lines().collect();
            return Err(lines[lines.len().saturating_sub(5)..].join("\n"));
        }
        sleep(Duration::from_millis(100)).await;
    }
    drop(pipe);
    Err(fs::read_to_string(&log).unwrap_or_default())
}

/// Makes an image of busybox; pinned by its id.
async fn import(docker: &Docker, changes: Vec<String>) -> String {
    let options = CreateImageOptionsBuilder::new().from_src("-").repo("busybox").changes(changes).build();
    let words: Vec<_> = docker.create_image(Some(options), Some(body_full(files().into())), None).collect().await;
    let id = words.into_iter().filter_map(|word| word.unwrap().status).find(|status| status.starts_with("sha256:"));
    format!("busybox@{}", id.expect("the engine names what it made"))
}
