//! What a lease's user can hold open, and for how long.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{PATIENCE, image, leased, running, runtime::Made, setup};
use crate::fake::until;
use datagalax_agent::workloads::{Patience, Running, STREAMS};
use datagalax_protocol::lease::{LogFrame, MAX_FRAME, SessionAnswer, SessionRequest, path};
use datagalax_service::tls;
use datagalax_tenant::TenantError;
use futures_util::{SinkExt, StreamExt};
use reqwest::{Upgraded, header};
use solana_signer::Signer;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

/// A WebSocket whose frames the test makes by hand.
async fn by_hand(leased: &super::Leased, path: &str) -> WebSocketStream<Upgraded> {
    let asked = SessionRequest { lease: leased.lease.address.to_bytes(), seconds: 600 };
    let request = crate::fake::sign(&asked, 77, &leased.user);
    let http = tls::http(&leased.host.operator.pubkey()).build().unwrap();
    let at = |path: &str| format!("https://{}{path}", leased.host.address);
    let answer = http.post(at(path::SESSION)).body(request.encode()).send().await.unwrap().bytes().await.unwrap();
    let answer = datagalax_protocol::Envelope::decode(&answer).unwrap();
    let answer: SessionAnswer = borsh::from_slice(&answer.payload).unwrap();
    let upgrade = http
        .get(at(path))
        .header(header::AUTHORIZATION, format!("Bearer {}", hex::encode(answer.token)))
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .send();
    let upgraded = upgrade.await.unwrap().upgrade().await.unwrap();
    WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await
}

/// Waits for the end of a stream.
async fn ends(mut socket: WebSocketStream<Upgraded>) {
    let ending = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(PATIENCE, ending).await.expect("the stream is cut off");
}

#[tokio::test]
async fn one_stream_more_than_a_lease_may_have_is_refused_until_another_ends() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.run(&image()).await;
    let mut open: Vec<_> = (0..STREAMS).map(|_| leased.tenant.logs(0, true)).collect();
    until("all to be open", || leased.host.metrics.lease_streams.get() == STREAMS as i64).await;
    let refused = leased.tenant.logs(0, false).next().await;
    assert!(matches!(&refused, Some(Err(TenantError::NotYet(text))) if text.contains("32 streams")), "{refused:?}");
    open.pop();
    until("one to be closed", || leased.host.metrics.lease_streams.get() < STREAMS as i64).await;
    assert!(leased.tenant.logs(0, false).next().await.is_none(), "there is room, and nothing to say");
}

#[tokio::test]
async fn a_frame_that_is_too_long_and_one_that_is_none_end_the_stream() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.run(&image()).await;
    let exec = path::exec(&leased.lease.address);
    let mut socket = by_hand(&leased, &exec).await;
    socket.send(Message::Binary(vec![0; MAX_FRAME + 1].into())).await.ok();
    ends(socket).await;
    until("its place to be free", || leased.host.metrics.lease_streams.get() == 0).await;
}

#[tokio::test]
async fn what_is_no_frame_ends_the_stream() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.run(&image()).await;
    let mut socket = by_hand(&leased, &path::exec(&leased.lease.address)).await;
    socket.send(Message::Binary(vec![0xff; 10].into())).await.unwrap();
    ends(socket).await;
    until("its place to be free", || leased.host.metrics.lease_streams.get() == 0).await;
}

#[tokio::test]
async fn a_slow_reader_costs_no_memory_and_is_cut_off_in_the_end() {
    let made = Arc::new(Made { talks: true, ..Made::default() });
    let patience = Patience { send: Duration::from_secs(2), ..Patience::default() };
    let leased = leased(setup(Running { patience, ..running(made.clone()) }), &image()).await;
    leased.run(&image()).await;
    let logs = format!("{}?follow=true", path::logs(&leased.lease.address));
    let socket = by_hand(&leased, &logs).await;
    until("the stream to be open", || leased.host.metrics.lease_streams.get() == 1).await;
    until("its place to be free", || leased.host.metrics.lease_streams.get() == 0).await;
    // What the sockets of both sides hold, and no more.
    let read = made.read.load(Ordering::SeqCst);
    assert!(read < 32 << 20, "{read} bytes were read for a reader that takes none");
    drop(socket);
    // One that reads gets it all, in order.
    let mut logs = leased.tenant.logs(0, true);
    let mut expected = 0;
    while expected < 4 << 20 {
        let Some(Ok(LogFrame::Output { offset, bytes })) = logs.next().await else { panic!("it goes on") };
        assert_eq!(offset, expected);
        expected += bytes.len() as u64;
    }
}

#[tokio::test]
async fn who_answers_no_ping_is_cut_off() {
    let patience = Patience { ping: Duration::from_millis(100), silence: Duration::from_secs(4), ..Patience::default() };
    let leased = leased(setup(Running { patience, ..running(Arc::new(Made::default())) }), &image()).await;
    leased.run(&image()).await;
    let logs = format!("{}?follow=true", path::logs(&leased.lease.address));
    // Pings are answered as it is read, which it is not.
    let silent = by_hand(&leased, &logs).await;
    let mut heard = leased.tenant.logs(0, true);
    until("both to be open", || leased.host.metrics.lease_streams.get() == 2).await;
    until("one to be cut off", || leased.host.metrics.lease_streams.get() == 1).await;
    assert!(timeout(Duration::from_secs(6), heard.next()).await.is_err(), "the other one goes on");
    drop(silent);
}
