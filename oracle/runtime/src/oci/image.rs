//! Images: pinned by digest, verified after they were pulled, and pulled only when they are not there.

use std::{collections::HashMap, time::Duration};

use bollard::{
    models::ImageInspect,
    query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder},
};
use futures_util::StreamExt;
use tokio::time;

use super::engine::{Engine, absent_is_none, refusal};
use crate::{Progress, RuntimeError, workload::Invalid};

/// Longest wait for the next word of a pull.
const STALL: Duration = Duration::from_secs(300);
/// How often, and after which pause, an image is looked for whose pull was ended.
const LATE: u32 = 10;
const LATE_PAUSE: Duration = Duration::from_millis(100);
/// How much further a pull must be before that is told again.
const STEP: u64 = 16 << 20;

/// An image as a workload names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Without a tag: the digest alone decides.
    name: String,
    /// `sha256:` and 64 hex digits.
    digest: String,
}

/// An image that is there.
pub(super) struct Present {
    pub id: String,
    pub inspect: ImageInspect,
    /// Whether it was not there before.
    pub pulled: bool,
}

impl Image {
    /// `name[:tag]@sha256:<64 hex digits>`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid(
            "the image must be pinned by its digest: name@sha256:<64 hex digits in lower case>, its name of letters, digits, \
             dots, hyphens, underscores and slashes",
        );
        let (name, digest) = text.split_once("@sha256:").ok_or(invalid)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        // Each part begins with a letter or digit, so that none is `..`: the name becomes part of a path of the API.
        let part = |part: &str| {
            let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
            part.bytes().all(sound) && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        };
        if digest.len() != 64 || !digest.bytes().all(hex) || text.len() > 255 || !name.split('/').all(part) {
            return Err(invalid);
        }
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let name = name[last..].find(':').map_or(name, |tag| &name[..last + tag]);
        Ok(Self { name: name.to_owned(), digest: format!("sha256:{digest}") })
    }

    /// With the name that the engine knows it by.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }

    fn missing(&self, reason: impl Into<String>) -> RuntimeError {
        RuntimeError::Image { image: self.reference(), reason: reason.into() }
    }

    /// The image, if it is here: by its digest in a registry, or, made here, by its id.
    pub async fn find(&self, engine: &Engine) -> Result<Option<Present>, RuntimeError> {
        for name in [&self.reference(), &self.digest] {
            let inspected = absent_is_none(engine.docker.inspect_image(name).await);
            let Some(inspect) = inspected.map_err(engine.failed("look at the image"))? else { continue };
            let id = inspect.id.clone().unwrap_or_default();
            let digests = inspect.repo_digests.as_deref().unwrap_or_default();
            let of_registry =
                digests.iter().any(|digest| digest.split_once('@').is_some_and(|(_, digest)| *digest == self.digest));
            // Exactly: the engine also takes the beginning of an id for a name.
            if id == self.digest || of_registry {
                return Ok(Some(Present { id, inspect, pulled: false }));
            }
        }
        Ok(None)
    }

    /// The image, pulled if it is not here; larger than `most` bytes it is refused.
    pub async fn get(&self, engine: &Engine, most: u64, progress: &Progress<'_>) -> Result<Present, RuntimeError> {
        let present = match self.find(engine).await? {
            Some(present) => present,
            None => {
                progress(format!("pulling {}", self.reference()));
                if let Err(error) = self.pull(engine, most, progress).await {
                    if matches!(error, RuntimeError::Refused(_)) {
                        self.remove_late(engine).await?;
                    }
                    return Err(error);
                }
                let pulled = self.find(engine).await?;
                let pulled = pulled.ok_or_else(|| self.missing("what was pulled does not have that digest"))?;
                Present { pulled: true, ..pulled }
            }
        };
        let size = present.inspect.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        if size > most {
            if present.pulled {
                self.remove(engine).await?;
            }
            return Err(self.too_large(size, most));
        }
        Ok(present)
    }

    fn too_large(&self, size: u64, most: u64) -> RuntimeError {
        let image = self.reference();
        RuntimeError::Refused(format!(
            "the image {image} has {size} bytes or more, and this workload may have {most} on disk"
        ))
    }

    async fn pull(&self, engine: &Engine, most: u64, progress: &Progress<'_>) -> Result<(), RuntimeError> {
        let options = CreateImageOptionsBuilder::new().from_image(&self.name).tag(&self.digest).build();
        let mut words = engine.docker.create_image(Some(options), None, None);
        // Of each layer: bytes that are here, and all of them, compressed.
        let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
        let mut told = 0;
        loop {
            let word = time::timeout(STALL, words.next()).await;
            let word = word.map_err(|_| self.missing(format!("the engine said nothing of it for {} s", STALL.as_secs())))?;
            let Some(word) = word else { return Ok(()) };
            let word = match word {
                Ok(word) => word,
                Err(bollard::errors::Error::DockerResponseServerError { message, .. }) => return Err(self.missing(message)),
                Err(bollard::errors::Error::DockerStreamError { error }) => return Err(self.missing(error)),
                Err(error) => return Err(engine.failed("pull the image")(error)),
            };
            let detail = word.progress_detail.and_then(|detail| detail.current.zip(detail.total));
            if word.status.as_deref() != Some("Downloading") {
                continue;
            }
            if let Some((layer, (current, total))) = word.id.zip(detail) {
                let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
                layers.insert(layer, (bytes(current), bytes(total)));
            }
            let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).fold(0, u64::saturating_add);
            let (here, all) = (sum(|layer| layer.0), sum(|layer| layer.1));
            if all > most {
                // Dropping the answer ends the pull.
                return Err(self.too_large(all, most));
            }
            if here >= told + STEP {
                told = here;
                progress(format!("pulling {}: {} of {} MB", self.reference(), here / 1_000_000, all / 1_000_000));
            }
        }
    }

    /// Removes what the engine may have been done with before it heard that nobody wants it.
    async fn remove_late(&self, engine: &Engine) -> Result<(), RuntimeError> {
        for _ in 0..LATE {
            self.remove(engine).await?;
            time::sleep(LATE_PAUSE).await;
        }
        self.remove(engine).await
    }

    /// Removes it, unless something uses it.
    pub async fn remove(&self, engine: &Engine) -> Result<(), RuntimeError> {
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        match engine.docker.remove_image(&self.reference(), Some(options), None).await {
            Err(error) if !matches!(refusal(&error), Some(404 | 409)) => Err(engine.failed("remove the image")(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_its_digest_and_its_tag_does_not_matter() {
        let digest = "0f".repeat(32);
        for (name, bare) in [
            ("a", "a"),
            ("a:1", "a"),
            ("r.example:5000/a/b", "r.example:5000/a/b"),
            ("r.example:5000/a/b:v1.2", "r.example:5000/a/b"),
        ] {
            let image = Image::parse(&format!("{name}@sha256:{digest}")).unwrap();
            assert_eq!(image.reference(), format!("{bare}@sha256:{digest}"));
        }
        for bad in [
            "a",
            "a:latest",
            &format!("a@sha256:{}", &digest[1..]),
            &format!("a@sha256:{}", digest.to_uppercase()),
            &format!("a/../b@sha256:{digest}"),
            &format!("../containers@sha256:{digest}"),
            &format!("a//b@sha256:{digest}"),
            &format!("/a@sha256:{digest}"),
            &format!("a?b@sha256:{digest}"),
            &format!("@sha256:{digest}"),
        ] {
            Image::parse(bad).expect_err(bad);
        }
    }
}
