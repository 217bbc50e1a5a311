//! A WebSocket to a lease's user: bounded frames, bounded waiting, signs of life.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use borsh::BorshSerialize;
use datagalax_protocol::lease::MAX_FRAME;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{sync::Mutex, time};

/// How long users' streams are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often a ping is sent.
    pub ping: Duration,
    /// A user who says nothing for so long, pongs included, is gone.
    pub silence: Duration,
    /// A user who takes nothing for so long is cut off.
    pub send: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { ping: Duration::from_secs(20), silence: Duration::from_secs(60), send: Duration::from_secs(60) }
    }
}

/// Bytes of content in a frame, well under [`MAX_FRAME`] with what is around them.
pub(super) const CONTENT: usize = MAX_FRAME / 2;

/// The user is gone, or was cut off.
#[derive(Debug)]
pub(super) struct Gone;

/// The writing half.
pub(super) struct Line {
    sink: Mutex<SplitSink<WebSocket, Message>>,
    patience: Patience,
}

/// The reading half.
pub(super) struct Heard {
    source: SplitStream<WebSocket>,
    patience: Patience,
}

pub(super) fn split(socket: WebSocket, patience: Patience) -> (Line, Heard) {
    let (sink, source) = socket.split();
    (Line { sink: Mutex::new(sink), patience }, Heard { source, patience })
}

impl Line {
    /// Sends bytes once the user has taken enough of what was sent before.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.message(Message::Binary(bytes.into())).await
    }

    /// Sends a frame.
    pub async fn frame(&self, frame: &impl BorshSerialize) -> Result<(), Gone> {
        self.send(borsh::to_vec(frame).expect("borsh to memory")).await
    }

    async fn message(&self, message: Message) -> Result<(), Gone> {
        let sending = async { self.sink.lock().await.send(message).await };
        match time::timeout(self.patience.send, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Ends the stream in order.
    pub async fn end(&self) {
        self.close(close_code::NORMAL, "").await;
    }

    /// Ends the stream with a reason that the user is told.
    pub async fn cut(&self, reason: &'static str) {
        self.close(close_code::POLICY, reason).await;
    }

    /// Ends the stream because this agent ends: the user may come again.
    pub async fn restart(&self) {
        self.close(close_code::RESTART, "the agent restarts").await;
    }

    async fn close(&self, code: u16, reason: &'static str) {
        // Who is gone already need not be told.
        self.message(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await.ok();
    }

    /// Pings for ever.
    pub async fn ping(&self) -> Gone {
        loop {
            time::sleep(self.patience.ping).await;
            if self.message(Message::Ping(Vec::new().into())).await.is_err() {
                return Gone;
            }
        }
    }
}

impl Heard {
    /// The next bytes of the user; `None` when it closed the stream.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        loop {
            match time::timeout(self.patience.silence, self.source.next()).await {
                Ok(Some(Ok(Message::Binary(bytes)))) => return Ok(Some(bytes.into())),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(None | Some(Ok(Message::Close(_)))) => return Ok(None),
                // A frame that is too long, a text, a broken connection, or silence.
                Ok(Some(Ok(Message::Text(_)) | Err(_))) | Err(_) => return Err(Gone),
            }
        }
    }

    /// Waits for the end of a user who has nothing to say.
    pub async fn closed(&mut self) -> Gone {
        while let Ok(Some(_)) = self.next().await {}
        Gone
    }
}
