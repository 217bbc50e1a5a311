//! WebSockets to the host, over the same pinned TLS as everything else.

use std::time::Duration;

use datagalax_protocol::lease::MAX_FRAME;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use reqwest::{StatusCode, Upgraded, header};
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Bytes, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{Tenant, TenantError, host::ASK_TIMEOUT};

/// A host that says nothing for so long is gone: it pings several times meanwhile.
const SILENCE: Duration = Duration::from_secs(90);

pub(crate) type Socket = WebSocketStream<Upgraded>;

fn broken(error: tungstenite::Error) -> TenantError {
    TenantError::Unreachable(format!("the stream broke off: {error}"))
}

impl Tenant {
    pub(crate) async fn socket(&self, path: &str, query: &[(&str, String)]) -> Result<Socket, TenantError> {
        let (url, key) = (self.url(path), generate_key());
        let opening = self.authorised(|http| {
            let upgrade = [
                (header::CONNECTION, "upgrade"),
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_VERSION, "13"),
                (header::SEC_WEBSOCKET_KEY, &key),
            ];
            upgrade.into_iter().fold(http.get(&url).query(query), |request, (name, value)| request.header(name, value))
        });
        let late = |_| TenantError::Unreachable("the stream does not begin".into());
        let answer = time::timeout(ASK_TIMEOUT, opening).await.map_err(late)??;
        let expected = derive_accept_key(key.as_bytes());
        let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS || accept.is_none_or(|accept| accept != expected.as_str()) {
            return Err(TenantError::Garbled("no WebSocket".into()));
        }
        let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        Ok(WebSocketStream::from_raw_socket(answer.upgrade().await?, Role::Client, Some(config)).await)
    }
}

/// The next message; `None` at an orderly end.
pub(crate) async fn receive(
    socket: &mut (impl Stream<Item = tungstenite::Result<Message>> + Unpin),
) -> Result<Option<Bytes>, TenantError> {
    loop {
        let Ok(received) = time::timeout(SILENCE, socket.next()).await else {
            return Err(TenantError::Unreachable("nothing was heard of the host for a while".into()));
        };
        match received {
            Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Text(_))) => return Err(TenantError::Garbled("a text where a frame belongs".into())),
            Some(Ok(Message::Close(Some(CloseFrame { code: CloseCode::Restart | CloseCode::Away, reason })))) => {
                return Err(TenantError::Unreachable(reason.to_string()));
            }
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) if code != CloseCode::Normal => {
                return Err(TenantError::Refused(reason.to_string()));
            }
            None | Some(Ok(Message::Close(_))) => return Ok(None),
            Some(Err(error)) => return Err(broken(error)),
        }
    }
}

/// Sends a message; waits while the host does not take it.
pub(crate) async fn send(
    socket: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    bytes: Vec<u8>,
) -> Result<(), TenantError> {
    socket.send(Message::Binary(bytes.into())).await.map_err(broken)
}

/// Reads a frame.
pub(crate) fn decode<T: borsh::BorshDeserialize>(bytes: &[u8]) -> Result<T, TenantError> {
    T::try_from_slice(bytes).map_err(|error| TenantError::Garbled(error.to_string()))
}
