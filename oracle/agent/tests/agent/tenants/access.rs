//! Sessions: who gets in, and for how long.

use std::sync::Arc;

use super::{Leased, image, leased, running, runtime::Made, setup};
use crate::fake::{context, now, sign, until};
use datagalax_protocol::{
    Envelope, Expected,
    lease::{End, SessionAnswer, SessionRequest, State, Token, path},
};
use datagalax_service::tls;
use datagalax_tenant::TenantError;
use reqwest::StatusCode;
use solana_signer::Signer;

/// Asks for a session of so many seconds.
async fn session(leased: &Leased, nonce: u8, seconds: u32) -> Token {
    let asked = sign(&SessionRequest { lease: leased.lease.address.to_bytes(), seconds }, nonce, &leased.user);
    let http = tls::http(&leased.host.operator.pubkey()).build().unwrap();
    let url = format!("https://{}{}", leased.host.address, path::SESSION);
    let answer = http.post(url).body(asked.encode()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let signers = [leased.host.operator.pubkey()];
    let expected = Expected { context: context(), nonce: Some(asked.nonce), signers: &signers, now: now() };
    let answer = Envelope::decode(&answer.bytes().await.unwrap()).unwrap();
    let answer: SessionAnswer = answer.verify(&expected).unwrap();
    assert_eq!(answer.request, asked.digest());
    assert!((answer.expires - now() - i64::from(seconds)).abs() <= 2);
    answer.token
}

async fn with(leased: &Leased, path: &str, token: Option<&Token>) -> StatusCode {
    let http = tls::http(&leased.host.operator.pubkey()).build().unwrap();
    let request = http.get(format!("https://{}{path}", leased.host.address));
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {}", hex::encode(token))),
        None => request,
    };
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_token_opens_its_lease_until_it_expires_and_nothing_else() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.status().await;
    let status = path::status(&leased.lease.address);
    let (short, long) = (session(&leased, 1, 5).await, session(&leased, 2, 600).await);
    assert_eq!(with(&leased, &status, Some(&short)).await, StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    assert_eq!(with(&leased, &status, Some(&short)).await, StatusCode::UNAUTHORIZED, "expired");
    assert_eq!(with(&leased, &status, Some(&long)).await, StatusCode::OK);
    let elsewhere = path::status(&solana_pubkey::Pubkey::new_unique());
    assert_eq!(with(&leased, &elsewhere, Some(&long)).await, StatusCode::UNAUTHORIZED, "another lease");
    for path in [status, path::files(&leased.lease.address), path::logs(&leased.lease.address)] {
        assert_eq!(with(&leased, &path, None).await, StatusCode::UNAUTHORIZED, "no token");
        assert_eq!(with(&leased, &path, Some(&[7; 32])).await, StatusCode::UNAUTHORIZED, "a guess");
    }
}

#[tokio::test]
async fn sessions_end_with_the_lease_and_its_user_may_still_ask_how_it_ended() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.run(&image()).await;
    let token = session(&leased, 1, 600).await;
    let status = path::status(&leased.lease.address);
    assert_eq!(with(&leased, &status, Some(&token)).await, StatusCode::OK);
    leased.close();
    until("the record to be gone", || !leased.on_disk()).await;
    assert_eq!(with(&leased, &status, Some(&token)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(leased.status().await.state, State::Ended { end: End::Stopped });
    let refused = leased.tenant.exec(&["true".to_owned()]).await.err();
    assert_eq!(refused, Some(TenantError::Refused("the lease is over".into())));
}

#[tokio::test]
async fn a_client_whose_session_the_host_has_forgotten_asks_for_another_by_itself() {
    let leased = leased(setup(running(Arc::new(Made::default()))), &image()).await;
    leased.status().await;
    // As many sessions as a lease can have, all of which end later.
    for nonce in 1..=15 {
        session(&leased, nonce, 3_600).await;
    }
    session(&leased, 16, 3_600).await;
    leased.status().await;
}
