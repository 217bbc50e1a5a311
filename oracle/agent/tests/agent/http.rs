//! The interface over real HTTP on loopback: who is answered, who is refused and how, and what nobody can hold open.

use std::{sync::atomic::Ordering, time::Duration};

use crate::fake::{EPOCH, Setup, ask, committee, context, host, lease, now, ready_host, sign, until};
use datagalax_agent::chain::{ChainError, Phase};
use datagalax_protocol::{
    BeaconRequest, Context, Envelope, InspectionAnswer, InspectionRequest, LivenessAnswer, LivenessRequest, SampleRequest,
    beacon::RowAt, path,
};
use futures_util::StreamExt;
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn the_committee_gets_metrics_of_this_very_host() {
    let host = ready_host(Setup::default()).await;
    let request = sign(&LivenessRequest, 1, &host.checker);
    let answer: LivenessAnswer = host.ask(path::LIVENESS, &LivenessRequest, 1, &host.checker).await;
    assert_eq!(answer.request, request.digest());
    assert_eq!(answer.metrics.fingerprint, host.fingerprint);
    assert!(answer.metrics.host.memory_total > 0 && answer.metrics.host.cpu_threads > 0);
    let (status, info) = host.get("/v1/info").await;
    assert!(status == StatusCode::OK && info.contains(&host.operator.pubkey().to_string()), "{info}");
    assert_eq!(host.get("/live").await.0, StatusCode::OK);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_has_no_say_is_refused_by_name() {
    let host = ready_host(Setup::default()).await;
    let refused = |envelope: Envelope| host.refusal(path::LIVENESS, envelope.encode());
    let good = sign(&LivenessRequest, 1, &host.checker);

    let (status, text) = refused(sign(&LivenessRequest, 2, &Keypair::new())).await;
    assert!(status == StatusCode::FORBIDDEN || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    assert!(text.contains("no say") || text.contains("neither in the committee"), "{text}");

    let mut forged = good.clone();
    forged.nonce[0] ^= 1;
    assert_eq!(refused(forged).await, (StatusCode::FORBIDDEN, "the signature is wrong".into()));

    let sign_in = |context, at| Envelope::sign(&context, &LivenessRequest, [9; 16], at, &host.checker).unwrap();
    let (status, text) = refused(sign_in(Context { genesis_hash: [0; 32], ..context() }, now())).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("another cluster"), "{text}");
    let (status, text) = refused(sign_in(Context { subject: Pubkey::default(), ..context() }, now())).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("about container"), "{text}");
    let (status, text) = refused(sign_in(context(), now() - 86_400)).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("seconds old"), "{text}");
    let (_, text) = refused(sign_in(Context { epoch: EPOCH - 1, ..context() }, now())).await;
    assert!(text.contains("epoch 3, expected 4") || text.contains("as of a moment ago"), "{text}");

    // The right message at the wrong door.
    let (status, text) = host.refusal(path::BEACON, good.encode()).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("kind 1"), "{text}");
    // None of it was recorded against the honest key.
    assert_eq!(host.post(path::LIVENESS, good.encode()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_replay_is_refused() {
    let host = ready_host(Setup::default()).await;
    let request = sign(&LivenessRequest, 1, &host.checker).encode();
    assert_eq!(host.post(path::LIVENESS, request.clone()).await.0, StatusCode::OK);
    assert_eq!(host.refusal(path::LIVENESS, request).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_new_epochs_committee_is_found_and_the_old_one_forgotten() {
    let host = ready_host(Setup::default()).await;
    let next = Keypair::new();
    *host.chain.committee.lock().unwrap() = Ok(committee(EPOCH + 1, vec![next.pubkey()], 1));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let looks = host.chain.looks.load(Ordering::SeqCst);
    let context = Context { epoch: EPOCH + 1, ..context() };
    let request = Envelope::sign(&context, &LivenessRequest, [7; 16], now(), &next).unwrap();
    assert_eq!(host.post(path::LIVENESS, request.encode()).await.0, StatusCode::OK);
    assert_eq!(host.chain.looks.load(Ordering::SeqCst), looks + 1);

    // A stranger's flood makes the agent look at most once a second.
    let began = std::time::Instant::now();
    for nonce in 0..50 {
        host.post(path::LIVENESS, sign(&LivenessRequest, nonce, &Keypair::new()).encode()).await;
    }
    assert!(host.chain.looks.load(Ordering::SeqCst) <= looks + 3 + began.elapsed().as_secs() as u32);
    let (_, text) = host.refusal(path::LIVENESS, sign(&LivenessRequest, 77, &host.checker).encode()).await;
    assert!(text.contains("epoch 4, expected 5") || text.contains("as of a moment ago"), "{text}");
}

#[tokio::test]
async fn bodies_that_are_no_message_are_refused() {
    let host = ready_host(Setup::default()).await;
    assert_eq!(host.refusal(path::LIVENESS, vec![]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(host.refusal(path::LIVENESS, b"{\"json\":1}".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(host.refusal(path::LIVENESS, vec![1; 65_537]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    // A body that claims a gigabyte is refused by its length, before it is read.
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n", path::LIVENESS);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn whoever_sends_slowly_or_nothing_is_let_go_of() {
    let host = ready_host(Setup::default()).await;
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n", path::LIVENESS);
    let begun = ["", "POST /v1/liveness HTTP/1.1\r\nhos", &head].map(|begun| {
        let begun = begun.to_owned();
        async move {
            let mut stream = TcpStream::connect(host.address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tokio::time::timeout(Duration::from_secs(25), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            answer
        }
    });
    let answers = futures_util::future::join_all(begun).await;
    assert_eq!(answers[..2], ["", ""], "closed");
    assert!(answers[2].starts_with("HTTP/1.1 408"), "{}", answers[2]);
}

#[tokio::test]
async fn a_node_that_is_down_is_said_in_readiness_and_to_the_asker() {
    let host = ready_host(Setup::default()).await;
    *host.chain.committee.lock().unwrap() = Err(ChainError("no answer from the node".into()));
    // The committee in hand keeps its say until its epoch ends.
    assert_eq!(host.post(path::LIVENESS, sign(&LivenessRequest, 1, &host.checker).encode()).await.0, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (status, text) = host.refusal(path::LIVENESS, sign(&LivenessRequest, 2, &Keypair::new()).encode()).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("no answer from the node"), "{status} {text}");
}

#[tokio::test]
async fn an_unusable_registration_ends_the_agent_with_the_reason() {
    async fn ends(change: impl FnOnce(&mut Option<datagalax_agent::chain::Registration>) + 'static) -> String {
        let host = host(Setup { registration: Box::new(change), ..Setup::default() }).await;
        host.task.await.unwrap().unwrap_err().to_string()
    }
    let missing = ends(|registration| *registration = None).await;
    assert!(missing.contains("there is no container at") && missing.contains("register it"), "{missing}");
    let key = ends(|r| r.as_mut().unwrap().operator = Pubkey::default()).await;
    assert!(key.contains("but --keypair is"), "{key}");
    let other = ends(|r| r.as_mut().unwrap().fingerprint = [0; 32]).await;
    assert!(other.contains("register this host"), "{other}");
}

#[tokio::test]
async fn a_lessee_sees_metrics_and_nothing_else_and_a_former_one_nothing() {
    let host = ready_host(Setup::default()).await;
    let user = Keypair::new();
    host.chain.change(|registration| registration.lease = Some(lease(user.pubkey(), Phase::Started)));
    until("the lease to be seen", || host.metrics.leased.get() == 1).await;
    let metrics: LivenessAnswer = host.ask(path::LIVENESS, &LivenessRequest, 1, &user).await;
    let inspection: InspectionAnswer = host.ask(path::INSPECTION, &InspectionRequest, 2, &user).await;
    assert_eq!(metrics.metrics.fingerprint, inspection.inspection.metrics.fingerprint);

    let beacon = BeaconRequest { slot: 1, workload: ask().workload, deadline_ms: 1 };
    let sample = SampleRequest { root: [0; 32], rows: vec![RowAt { device: 0, pass: 0, row: 0 }], walks: vec![] };
    let refused = [(path::BEACON, sign(&beacon, 3, &user)), (path::SAMPLE, sign(&sample, 4, &user))];
    for (path, envelope) in refused {
        let (status, text) = host.refusal(path, envelope.encode()).await;
        assert!(status == StatusCode::FORBIDDEN && text.contains("metrics and inspections only"), "{path}: {status} {text}");
    }

    host.chain.change(|registration| registration.lease = None);
    until("the lease to be gone", || host.metrics.leased.get() == 0).await;
    let (status, text) = host.refusal(path::LIVENESS, sign(&LivenessRequest, 7, &user).encode()).await;
    assert!(text.contains("no say") || text.contains("neither in the committee"), "{status} {text}");
}

#[tokio::test]
async fn the_own_operator_is_answered_without_being_in_the_committee() {
    let host = ready_host(Setup::default()).await;
    let _: LivenessAnswer = host.ask(path::LIVENESS, &LivenessRequest, 1, &host.operator).await;
}

#[tokio::test]
async fn a_flood_of_one_key_is_limited_and_others_are_not_hurt() {
    let host = ready_host(Setup::default()).await;
    let mut refused = 0;
    for nonce in 0..=u8::MAX {
        let (status, text) = host.post(path::LIVENESS, sign(&LivenessRequest, nonce, &host.checker).encode()).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("this key asks too fast: ask again in"), "{text}");
            refused += 1;
            break;
        }
    }
    assert!(refused > 0);
    let _: LivenessAnswer = host.ask(path::LIVENESS, &LivenessRequest, 1, &host.operator).await;
}

#[tokio::test]
async fn a_flood_of_strangers_of_one_address_is_limited_before_anything_is_read() {
    let host = ready_host(Setup::default()).await;
    // Some at once, on connections of their own; as many as one address may open would have the rest closed. However slowly they
    // are sent.
    let asked = futures_util::stream::iter((0..20_000).map(|_| host.post(path::LIVENESS, vec![0]))).buffer_unordered(16);
    let (mut asked, mut read) = (std::pin::pin!(asked), 0);
    loop {
        match asked.next().await.expect("it is limited in the end").0 {
            StatusCode::BAD_REQUEST => read += 1,
            StatusCode::TOO_MANY_REQUESTS => break,
            other => panic!("{other}"),
        }
    }
    assert!(read > 0);
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_finish() {
    let host = ready_host(Setup::default()).await;
    let body = sign(&LivenessRequest, 1, &host.checker).encode();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        path::LIVENESS,
        body.len()
    );
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // It is being handled: the body is asked for.
    let asked = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut answer = vec![0; asked.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, asked);
    host.shutdown.request();
    stream.write_all(&body).await.unwrap();
    answer.clear();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    host.stop().await.unwrap();
}
