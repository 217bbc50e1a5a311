//! Copying files in and out, by the engine's archives: it needs no program in the image, and no path leads out of the container.

use std::{
    io,
    path::{Component, Path},
};

use bollard::{
    body_full, body_try_stream,
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::body::Bytes;
use tar::{EntryType, Header, PaxExtensions};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, DuplexStream, copy, duplex, sink},
    sync::oneshot,
};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{
    Inner,
    container::WORKSPACE,
    engine::{Engine, absent_is_none, refusal},
};
use crate::{Exec, Id, RuntimeError, error::failed};

/// Bytes of a file that wait to be read.
const BUFFER: usize = 64 * 1024;
/// An archive's unit.
const BLOCK: usize = 512;
/// Most bytes of what stands before a file in its archive.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most bytes of an image's list of users.
const MAX_USERS: u64 = 1 << 20;

/// A user's and its group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: u64,
    gid: u64,
}

/// A relative path that stays inside, without what it does not need.
fn inside(path: &str) -> Result<String, RuntimeError> {
    let refused = || RuntimeError::Path(path.to_owned());
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(refused)?),
            Component::CurDir => {}
            _ => return Err(refused()),
        }
    }
    if parts.is_empty() || path.len() > 4_096 || path.contains('\0') || path.ends_with('/') {
        return Err(refused());
    }
    Ok(parts.join("/"))
}

fn not_copied(reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Copy { status: 1, reason: reason.into() }
}

/// The head of an archive's entry.
fn head(kind: EntryType, path: &str, size: u64, mode: u32, owner: Owner) -> Result<Vec<u8>, RuntimeError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    header.set_size(size);
    let mut archive = tar::Builder::new(Vec::new());
    // Long paths get an entry of their own before it. The file itself follows by another way.
    archive.append_data(&mut header, path, io::empty()).map_err(failed("pack the file"))?;
    Ok(std::mem::take(archive.get_mut()))
}

impl Inner {
    pub async fn copy_in(&self, id: &Id, path: &str, from: &mut (dyn AsyncRead + Send + Unpin)) -> Result<(), RuntimeError> {
        let path = inside(path)?;
        self.running(id).await?;
        let spec = self.spec(id)?.ok_or_else(|| RuntimeError::Absent(id.clone()))?;
        // An archive names a file's size before the file: it is gathered first, in a file that has no name.
        let gathered = tempfile::tempfile_in(self.folder(id)).map_err(failed("gather the file"))?;
        let mut gathered = File::from_std(gathered);
        let most = spec.limits.disk;
        let size = copy(&mut from.take(most.saturating_add(1)), &mut gathered).await.map_err(failed("gather the file"))?;
        if size > most {
            return Err(not_copied(format!("it has more than the {most} bytes that the workload may have on disk")));
        }
        gathered.flush().await.map_err(failed("gather the file"))?;
        gathered.rewind().await.map_err(failed("gather the file"))?;
        let engine = &self.engine;
        let container = engine.name(id);
        let owner = owner_of(engine, &container).await?;
        let mut archive = Vec::new();
        // Folders on the way that are not there: made here, so that they are the workload's own.
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in folders {
            let options = ContainerArchiveInfoOptionsBuilder::new().path(&format!("{WORKSPACE}/{folder}")).build();
            let there = absent_is_none(engine.docker.get_container_archive_info(&container, Some(options)).await);
            if there.map_err(engine.failed("look at the folder"))?.is_none() {
                archive.extend(head(EntryType::Directory, &format!("{folder}/"), 0, 0o755, owner)?);
            }
        }
        archive.extend(head(EntryType::Regular, &path, size, 0o644, owner)?);
        let padding = vec![0; size.next_multiple_of(BLOCK as u64).abs_diff(size) as usize + 2 * BLOCK];
        let ends = |bytes: Vec<u8>| stream::iter([Ok::<_, io::Error>(Bytes::from(bytes))]);
        let archive = ends(archive).chain(ReaderStream::with_capacity(gathered, BUFFER)).chain(ends(padding));
        // A file does not take a folder's place.
        let options = UploadToContainerOptionsBuilder::new().path(WORKSPACE).no_overwrite_dir_non_dir("1").build();
        let copied = engine.patient().upload_to_container(&container, Some(options), body_try_stream(archive)).await;
        copied.map_err(|error| match error {
            bollard::errors::Error::DockerResponseServerError { message, .. } => not_copied(message),
            error => engine.failed("copy the file")(error),
        })
    }

    pub async fn copy_out(&self, id: &Id, path: &str) -> Result<Exec, RuntimeError> {
        let path = inside(path)?;
        self.running(id).await?;
        let (to, stdout) = duplex(BUFFER);
        let (told, ended) = oneshot::channel();
        let (engine, container) = (self.engine.clone(), self.engine.name(id));
        let (mut to_stderr, stderr) = duplex(BUFFER);
        let copying = tokio::spawn(async move {
            let status = match send(&engine, &container, &format!("{WORKSPACE}/{path}"), u64::MAX, to).await {
                Ok(()) => Ok(0),
                // As a command would say it.
                Err(RuntimeError::Copy { status, reason }) => {
                    to_stderr.write_all(reason.as_bytes()).await.ok();
                    Ok(status)
                }
                Err(error) => Err(error),
            };
            told.send(status).ok();
        });
        let copying = AbortOnDrop(copying.abort_handle());
        let ended = async move {
            let _copying = copying;
            let broken = |_| Err(RuntimeError::Io { what: "copy the file", error: io::ErrorKind::BrokenPipe.into() });
            ended.await.unwrap_or_else(broken)
        };
        let stdin = Box::new(sink());
        Ok(Exec { stdin, stdout: Box::new(stdout), stderr: Box::new(stderr), ended: ended.boxed() })
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a file of a container, of at most `most` bytes.
async fn send(engine: &Engine, container: &str, path: &str, most: u64, mut to: DuplexStream) -> Result<(), RuntimeError> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let docker = engine.patient();
    let pieces = docker.download_from_container(container, Some(options)).map_err(|error| match refusal(&error) {
        Some(404) => io::Error::other(Refused(format!("{path}: no such file"))),
        Some(_) => io::Error::other(Refused(error.to_string())),
        None => io::Error::other(error),
    });
    let mut archive = StreamReader::new(Box::pin(pieces));
    let unreadable = |error: io::Error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
        Some(Refused(reason)) => not_copied(reason.clone()),
        None => failed("copy the file")(error),
    };
    let mut size_before = None;
    loop {
        let mut header = [0; BLOCK];
        archive.read_exact(&mut header).await.map_err(unreadable)?;
        let header = Header::from_byte_slice(&header);
        let size = header.entry_size().map_err(failed("unpack the file"))?;
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let size = size_before.unwrap_or(size);
                if size > most {
                    return Err(not_copied(format!("it has {size} bytes, more than {most}")));
                }
                let sent = copy(&mut (&mut archive).take(size), &mut to).await.map_err(unreadable)?;
                return if sent == size { Ok(()) } else { Err(not_copied("it was cut off")) };
            }
            // What does not fit into the header of the file that follows.
            EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink if size <= MAX_EXTENSION => {
                let mut extension = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
                archive.read_exact(&mut extension).await.map_err(unreadable)?;
                if header.entry_type() == EntryType::XHeader {
                    let mut fields = PaxExtensions::new(&extension[..size as usize]).flatten();
                    let field = fields.find(|field| field.key() == Ok("size"));
                    size_before = field.and_then(|field| field.value().ok()?.parse().ok()).or(size_before);
                }
            }
            EntryType::Directory => return Err(not_copied(format!("{path} is a directory"))),
            EntryType::Symlink => return Err(not_copied(format!("{path} is a symbolic link: name what it leads to"))),
            _ => return Err(not_copied(format!("{path} is no file"))),
        }
    }
}

/// The engine's refusal of an archive.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// The user of a container.
async fn owner_of(engine: &Engine, container: &str) -> Result<Owner, RuntimeError> {
    let inspected =
        engine.docker.inspect_container(container, None).await.map_err(engine.failed("look at the container"))?;
    let user = inspected.config.and_then(|config| config.user).unwrap_or_default();
    resolve(engine, container, &user).await
}

/// The numbers of a user as an image names it: `user[:group]`, each by name or by number.
async fn resolve(engine: &Engine, container: &str, user: &str) -> Result<Owner, RuntimeError> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let mut owner = Owner { uid: user.parse().unwrap_or(0), gid: 0 };
    if !matches!(user, "" | "0" | "root") {
        let users = text(engine, container, "/etc/passwd").await?;
        let listed = entry(&users, user);
        let number = |at: usize| listed.as_ref().and_then(|fields| fields.get(at)?.parse::<u64>().ok());
        if let Some(uid) = number(2) {
            owner.uid = uid;
        } else if user.parse::<u64>().is_err() {
            return Err(RuntimeError::NotStarted(format!("the image runs as {user}, whom its /etc/passwd does not have")));
        }
        owner.gid = number(3).unwrap_or(0);
    }
    if let Some(group) = group {
        owner.gid = match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let groups = text(engine, container, "/etc/group").await?;
                let gid = entry(&groups, group).and_then(|fields| fields.get(2)?.parse().ok());
                let missing = || format!("the image runs with the group {group}, which its /etc/group does not have");
                gid.ok_or_else(|| RuntimeError::NotStarted(missing()))?
            }
        };
    }
    Ok(owner)
}

/// The fields of who has this name, or this number, in a list of users or groups.
fn entry(list: &str, name: &str) -> Option<Vec<String>> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let all = || list.lines().map(fields);
    all()
        .find(|fields| fields[0] == name)
        .or_else(|| all().find(|fields| fields.get(2).is_some_and(|number| number == name)))
}

/// A small file of a container; empty when it is not there.
async fn text(engine: &Engine, container: &str, path: &str) -> Result<String, RuntimeError> {
    let (to, mut from) = duplex(BUFFER);
    let mut bytes = Vec::new();
    let (sent, read) = tokio::join!(send(engine, container, path, MAX_USERS, to), from.read_to_end(&mut bytes));
    read.map_err(failed("read the image's users"))?;
    match sent {
        Ok(()) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(RuntimeError::Copy { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Gives the volumes of a container that does not run to the user who will use them.
pub(super) async fn give_volumes<'a>(
    engine: &Engine,
    attendant: &str,
    user: &str,
    paths: impl Iterator<Item = &'a String>,
) -> Result<(), RuntimeError> {
    let owner = resolve(engine, attendant, user).await?;
    let mut archive = Vec::new();
    for path in paths {
        archive.extend(head(EntryType::Directory, &format!("{}/", path.trim_start_matches('/')), 0, 0o755, owner)?);
    }
    archive.extend([0; 2 * BLOCK]);
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let given = engine.docker.upload_to_container(attendant, Some(options), body_full(archive.into())).await;
    given.map_err(engine.failed("give the volumes to the image's user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        assert_eq!(inside("a/./b//c").unwrap(), "a/b/c");
        for bad in ["", ".", "..", "/etc/passwd", "../x", "a/../../b", "a/", "a\0b", &"a/".repeat(3_000)] {
            inside(bad).expect_err(bad);
        }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let list = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:2000::/:\n\nbroken\n7:x:8:9::/:\n";
        assert_eq!(entry(list, "app").unwrap()[2..4], ["1000", "2000"]);
        assert_eq!(entry(list, "1000").unwrap()[0], "app");
        assert_eq!(entry(list, "7").unwrap()[2], "8", "a name first");
        assert_eq!(entry(list, "nobody"), None);
    }

    #[test]
    fn a_long_path_is_packed_whole() {
        let path = format!("{}/file", "folder".repeat(40));
        let mut bytes = head(EntryType::Regular, &path, 3, 0o644, Owner { uid: 5, gid: 6 }).unwrap();
        bytes.extend(b"abc");
        bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some(path.as_str()));
        assert_eq!((entry.size(), entry.header().uid().unwrap(), entry.header().gid().unwrap()), (3, 5, 6));
    }
}
