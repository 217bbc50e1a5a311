//! WebSockets, passed as bytes and then cut or silenced.

use std::{io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpStream,
    time::sleep,
};

use super::{Fault, Route, Shared};

/// How long a silent one stays open, as behind a router that forgot it.
const SILENCE: Duration = Duration::from_secs(20);

pub(super) async fn serve(shared: &Shared, node: usize, stream: TcpStream) -> io::Result<()> {
    if shared.nodes[node].is_down() {
        return Ok(());
    }
    let upstream = TcpStream::connect(shared.upstream.ws).await?;
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_node, mut to_node) = upstream.into_split();
    let up = async move {
        copy(&mut from_client, &mut to_node).await?;
        to_node.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        let (mut fault, mut trouble, mut silent) = (None, Box::pin(sleep(Duration::ZERO)), false);
        loop {
            // A connection outlives many weathers: while there is a storm, one fault after the other awaits it.
            if fault.is_none() && shared.storm.load(Ordering::Relaxed) {
                let (dealt, detail) = shared.deal(node, Route::Socket);
                fault = Some(dealt);
                trouble = Box::pin(sleep(Duration::from_millis(500 + detail % 5_500) / shared.pace));
            }
            let waits = fault.is_some();
            tokio::select! {
                read = from_node.read(&mut buffer) => {
                    let bytes = read?;
                    if bytes == 0 {
                        return to_client.shutdown().await;
                    }
                    if !silent {
                        to_client.write_all(&buffer[..bytes]).await?;
                    }
                }
                () = &mut trouble, if waits => {
                    match fault.take().flatten() {
                        _ if silent => return Ok(()),
                        None => {}
                        Some(Fault::SocketSilent) => {
                            shared.count(Fault::SocketSilent);
                            silent = true;
                            fault = Some(None);
                            trouble = Box::pin(sleep(SILENCE));
                        }
                        Some(fault) => {
                            shared.count(fault);
                            return Ok(());
                        }
                    }
                }
                // To notice a storm that begins.
                () = sleep(Duration::from_millis(500)), if !waits => {}
            }
        }
    };
    // Whichever ends first ends the connection.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
