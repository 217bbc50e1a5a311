//! The two TCP ports: taken only when they are free.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

/// The address every port is bound on: this machine only.
pub const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The ports of one network, kept from other local networks for as long as this value lives.
#[derive(Debug)]
pub struct Ports {
    /// JSON-RPC over HTTP.
    pub rpc: u16,
    /// WebSocket.
    pub ws: u16,
    // Surfpool's HTTP server binds with SO_REUSEPORT: two networks started at the same instant would both pass the check
    // below and then share the port, each answering half the calls. Two networks cannot both hold these sockets.
    _locks: [UdpSocket; 2],
}

/// What clients connect to.
#[derive(Clone, Debug)]
pub struct Urls {
    /// JSON-RPC over HTTP.
    pub rpc: String,
    /// WebSocket.
    pub ws: String,
}

impl Ports {
    /// Takes `port` for JSON-RPC and the one after it for the WebSocket.
    ///
    /// # Errors
    /// A sentence that names the port and says what to do, when either is taken or may not be bound.
    pub fn take(port: u16) -> Result<Self, String> {
        let (rpc, ws) =
            (port, port.checked_add(1).ok_or("port 65535 leaves no port for the WebSocket; choose a smaller one")?);
        let lock = |port, purpose| UdpSocket::bind((HOST, port)).map_err(|e| refusal(port, purpose, &e));
        let locks = [lock(rpc, "JSON-RPC")?, lock(ws, "WebSocket")?];
        for (port, purpose) in [(rpc, "JSON-RPC"), (ws, "WebSocket")] {
            drop(TcpListener::bind((HOST, port)).map_err(|e| refusal(port, purpose, &e))?);
        }
        Ok(Self { rpc, ws, _locks: locks })
    }

    /// Where the two are served.
    pub fn urls(&self) -> Urls {
        Urls { rpc: format!("http://{HOST}:{}", self.rpc), ws: format!("ws://{HOST}:{}", self.ws) }
    }
}

fn refusal(port: u16, purpose: &str, error: &std::io::Error) -> String {
    let advice = format!(
        "choose another pair with `--port P`, which serves JSON-RPC on P and the WebSocket on P+1 (`ss -tulpn | grep :{port}` shows who has it)"
    );
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "port {port} ({purpose}) on {HOST} is taken by another process, perhaps a local network that still runs; stop it, or {advice}"
            )
        }
        _ => format!("port {port} ({purpose}) on {HOST} cannot be bound: {error}; {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_either_port_is_found_and_named() {
        let (first, second, port) = pair();
        drop(first);
        let message = Ports::take(port).unwrap_err();
        assert!(message.contains(&format!("port {} (WebSocket)", port + 1)) && message.contains("--port"), "{message}");
        drop(second);
        let ports = Ports::take(port).unwrap();
        let message = Ports::take(port).unwrap_err();
        assert!(message.contains(&format!("port {port} (JSON-RPC)")), "{message}");
        drop(ports);
        Ports::take(port).unwrap();
    }

    /// Two neighbouring ports that are free, and held.
    fn pair() -> (TcpListener, TcpListener, u16) {
        loop {
            let first = TcpListener::bind((HOST, 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            if let Some(Ok(second)) = port.checked_add(1).map(|next| TcpListener::bind((HOST, next))) {
                return (first, second, port);
            }
        }
    }
}
