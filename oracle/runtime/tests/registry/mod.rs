//! A registry with one image, as much of one as a pull by digest asks for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

pub struct Registry {
    /// The image, pinned.
    pub image: String,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    /// How many questions there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

struct Blobs {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

/// A registry on the loopback address, where engines ask without TLS, with an image of these files.
pub async fn serve(layer: Vec<u8>) -> Registry {
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created_by": "these tests" }],
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": digest(&layer) }],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let image = format!("{}/box@{}", listener.local_addr().unwrap(), digest(&manifest));
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, blobs) = (asked.clone(), Arc::new(Blobs { manifest, config, layer }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (count, blobs) = (count.clone(), blobs.clone());
            tokio::spawn(async move { answer(stream, &blobs, &count).await });
        }
    });
    Registry { image, asked }
}

/// One question a connection.
async fn answer(mut stream: TcpStream, blobs: &Blobs, count: &AtomicUsize) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    count.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?, words.next()?);
    let wanted = path.rsplit('/').next()?;
    let all = [(MANIFEST, &blobs.manifest), ("application/octet-stream", &blobs.config), (LAYER, &blobs.layer)];
    let named = all.into_iter().find(|(_, bytes)| digest(bytes) == wanted);
    let (status, (kind, bytes)) = match named {
        Some(found) => ("200 OK", found),
        None if path == "/v2/" => ("200 OK", ("application/json", &b"{}".to_vec())),
        // Under this name it lies.
        None if path.starts_with("/v2/other/manifests/") => ("200 OK", all[0]),
        None => (
            "404 Not Found",
            ("application/json", &br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec()),
        ),
    };
    let content = digest(bytes);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {content}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    if method != "HEAD" {
        stream.write_all(bytes).await.ok()?;
    }
    stream.shutdown().await.ok()
}
