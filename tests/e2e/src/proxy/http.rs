//! HTTP/1.1 by hand, one request a connection: a proxy that breaks answers must hold their bytes.

use std::{
    io::{self, Error},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Most bytes of a head.
const MAX_HEAD: usize = 64 * 1024;
/// Most bytes of a body, either way.
const MAX_BODY: usize = 64 << 20;
/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message: head with its empty line, and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A header's value.
    fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        let named = |line: &'a str| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name));
        head.lines().skip(1).find_map(named).map(|(_, value)| value.trim())
    }

    /// An answer with this status.
    pub(crate) fn answer(status: &str, kind: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        Self { head, body: body.to_vec() }
    }

    /// All its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    /// As it is handed on: the connection ends with it.
    fn for_one_use(&self) -> Vec<u8> {
        let mut head: String = self
            .head
            .lines()
            .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"))
            .flat_map(|line| [line, "\r\n"])
            .collect();
        head += "Connection: close\r\n\r\n";
        [head.as_bytes(), &self.body].concat()
    }
}

/// Reads a request; `None` when the connection ended before one began.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let Some((head, mut body)) = timeout(PATIENCE, read_head(stream)).await?? else { return Ok(None) };
    let length = match Message::header(&head, "content-length") {
        Some(text) => text.parse().map_err(|_| Error::other("a length that is no number"))?,
        None if Message::header(&head, "transfer-encoding").is_some() => return Err(Error::other("a body in pieces")),
        None => 0,
    };
    if length > MAX_BODY || body.len() > length {
        return Err(Error::other("a body too long"));
    }
    let had = body.len();
    body.resize(length, 0);
    timeout(PATIENCE, stream.read_exact(&mut body[had..])).await??;
    Ok(Some(Message { head, body }))
}

/// The head, and what came of the body with it.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).map_err(Error::other)?;
            return Ok(Some((head, body)));
        }
        if bytes.len() > MAX_HEAD {
            return Err(Error::other("a head too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(Error::other("the connection ended in a head")) };
        }
    }
}

/// Hands a request on and waits for the whole answer.
pub(crate) async fn forward(to: SocketAddr, request: &Message) -> io::Result<Message> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(&request.for_one_use()).await?;
        let (head, mut body) = read_head(&mut stream).await?.ok_or_else(|| Error::other("no answer"))?;
        let most = MAX_BODY as u64;
        match Message::header(&head, "content-length").and_then(|text| text.parse::<u64>().ok()) {
            Some(length) => {
                let left = length.min(most).saturating_sub(body.len() as u64);
                stream.take(left).read_to_end(&mut body).await?
            }
            None => stream.take(most).read_to_end(&mut body).await?,
        };
        Ok(Message { head, body })
    };
    timeout(PATIENCE, exchange).await?
}

/// Posts JSON and reads the answer's body.
pub(crate) async fn post(to: SocketAddr, body: Vec<u8>) -> io::Result<Vec<u8>> {
    let head =
        format!("POST / HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    Ok(forward(to, &Message { head, body }).await?.body)
}
