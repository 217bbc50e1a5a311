//! Passing bytes both ways, with bounds.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{self, Instant},
};

use crate::limits::Rate;

/// Bytes read at a time, in each direction: a TLS record.
const CHUNK: usize = 16 * 1024;

/// Why passing ended.
#[derive(Debug, Error)]
pub(crate) enum Cut {
    #[error("nothing passed for {0:?}")]
    Idle(Duration),
    #[error("it lasted {0:?}")]
    Old(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Passes bytes between the two until both directions have ended, or an error, or a bound. `passed` hears of every chunk.
///
/// Progress is a whole chunk taken by the other side, so that one who reads a byte a minute is idle.
pub(crate) async fn splice(
    near: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
    rate: &Rate,
    idle: Duration,
    life: Duration,
    passed: impl Fn(usize),
) -> Result<(), Cut> {
    let last = Mutex::new(Instant::now());
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    let progress = |bytes| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        passed(bytes);
    };
    let watch = async {
        loop {
            let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + idle;
            if Instant::now() >= until {
                return;
            }
            time::sleep_until(until).await;
        }
    };
    tokio::select! {
        // What has come is passed on before anybody is called idle: this process may have been held up.
        biased;
        () = time::sleep(life) => Err(Cut::Old(life)),
        both = async { tokio::try_join!(one_way(near_read, far_write, rate, &progress), one_way(far_read, near_write, rate, &progress)) } => {
            both?;
            Ok(())
        }
        () = watch => Err(Cut::Idle(idle)),
    }
}

/// Until the end of `from`, which is passed on, too.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: &Rate,
    progress: &impl Fn(usize),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if let Some(at) = rate.reserve(read, Instant::now()) {
            time::sleep_until(at).await;
        }
        to.write_all(&chunk[..read]).await?;
        progress(read);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::{
        io::{DuplexStream, duplex},
        task::JoinHandle,
    };

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const LIFE: Duration = Duration::from_secs(600);

    /// How passing ended, and the bytes that passed.
    type Outcome = (Result<(), Cut>, usize);

    /// Two pipes of `buffer` bytes, spliced: their outer ends, and how it ended with how many bytes.
    fn spliced(per_second: u64, buffer: usize) -> (DuplexStream, DuplexStream, JoinHandle<Outcome>) {
        let ((client, near), (far, host)) = (duplex(buffer), duplex(buffer));
        let task = tokio::spawn(async move {
            let count = Arc::new(AtomicUsize::new(0));
            let (rate, counter) = (Rate::new(per_second, Instant::now()), count.clone());
            let passed = move |bytes| {
                counter.fetch_add(bytes, SeqCst);
            };
            let ended = splice(near, far, &rate, IDLE, LIFE, passed).await;
            (ended, count.load(SeqCst))
        });
        (client, host, task)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_ends_pass_both_ways() {
        let (mut client, mut host, task) = spliced(1 << 20, 1 << 10);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        host.read_to_string(&mut asked).await.unwrap();
        // The client has said all; the host may still answer.
        host.write_all(b"answer").await.unwrap();
        host.shutdown().await.unwrap();
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("question", "answer"));
        let (ended, bytes) = task.await.unwrap();
        ended.unwrap();
        assert_eq!(bytes, 14);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds() {
        let (mut client, mut host, _task) = spliced(1_000, 1 << 16);
        client.write_all(&[7; 5_000]).await.unwrap();
        let begun = Instant::now();
        host.read_exact(&mut [0; 5_000]).await.unwrap();
        // A second's worth is free.
        assert_eq!(begun.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (client, _host, task) = spliced(1 << 20, 1 << 10);
        let begun = Instant::now();
        let (ended, _) = task.await.unwrap();
        assert!(matches!(ended, Err(Cut::Idle(_))), "{ended:?}");
        assert_eq!(begun.elapsed(), IDLE);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_a_byte_a_minute_is_idle() {
        let (mut client, mut host, task) = spliced(1 << 20, 256);
        let slow = tokio::spawn(async move {
            loop {
                time::sleep(Duration::from_secs(20)).await;
                if host.read_u8().await.is_err() {
                    return;
                }
            }
        });
        // More than the pipes hold, so that the writer waits for the slow reader.
        client.write_all(&[1; 4_096]).await.ok();
        let (ended, _) = task.await.unwrap();
        assert!(matches!(ended, Err(Cut::Idle(_))), "{ended:?}");
        slow.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_last_for_ever() {
        let (mut client, mut host, task) = spliced(1 << 20, 256);
        let begun = Instant::now();
        let talk = tokio::spawn(async move {
            while client.write_u8(1).await.is_ok() && host.read_u8().await.is_ok() {
                time::sleep(Duration::from_secs(30)).await;
            }
        });
        let (ended, bytes) = task.await.unwrap();
        assert!(matches!(ended, Err(Cut::Old(_))), "{ended:?}");
        assert_eq!((begun.elapsed(), bytes), (LIFE, 20));
        talk.await.unwrap();
    }
}
