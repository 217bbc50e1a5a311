//! Every transaction that the program ever got, as the chain tells it.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use datagalax_client::{Address, addresses::PROGRAM};
use serde_json::{Value, json};

use crate::{
    actions::{Action, Kind, Sent},
    proxy::http,
};

/// Transactions that one answer names.
const ONE_ANSWER: usize = 1_000;

/// A transaction that landed.
#[derive(Clone, Debug)]
pub struct Landed {
    /// Its signature.
    pub signature: String,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Who paid, and what it did.
    pub sent: Sent,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct History(pub Vec<Landed>);

impl History {
    /// Reads it from a node that keeps it.
    ///
    /// # Errors
    /// The node does not answer, or keeps more than it names in one answer.
    pub async fn read(node: SocketAddr) -> Result<Self> {
        let named = call(node, "getSignaturesForAddress", json!([PROGRAM.to_string(), {"limit": ONE_ANSWER}])).await?;
        let named = named.as_array().context("no list of signatures")?;
        ensure!(named.len() < ONE_ANSWER, "{} transactions and more: read them in parts", named.len());
        let mut all = Vec::new();
        for one in named {
            let signature = one["signature"].as_str().context("no signature")?;
            let config = json!({"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 0});
            let found = call(node, "getTransaction", json!([signature, config])).await?;
            let wire = found["transaction"][0].as_str().with_context(|| format!("{signature} is not kept: {found}"))?;
            let sent = Sent::read(wire).with_context(|| format!("{signature} cannot be read"))?;
            all.push(Landed { signature: signature.to_owned(), succeeded: one["err"].is_null(), sent });
        }
        Ok(Self(all))
    }

    /// How often each action succeeded, or with `false`, landed and failed.
    pub fn times(&self, succeeded: bool) -> BTreeMap<Action, u32> {
        let mut times = BTreeMap::new();
        for landed in self.0.iter().filter(|landed| landed.succeeded == succeeded) {
            for action in &landed.sent.actions {
                *times.entry(action.clone()).or_default() += 1;
            }
        }
        times
    }

    /// How many actions of this kind succeeded.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|landed| landed.succeeded && landed.sent.does(kind)).count()
    }

    /// How many transactions of this payer succeeded in doing this.
    pub fn count_by(&self, payer: &Address, kind: Kind) -> usize {
        self.0.iter().filter(|l| l.succeeded && l.sent.payer == *payer && l.sent.does(kind)).count()
    }
}

async fn call(node: SocketAddr, method: &str, params: Value) -> Result<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let answer = http::post(node, body.into_bytes()).await.with_context(|| format!("{method} at {node}"))?;
    let mut answer: Value = serde_json::from_slice(&answer).with_context(|| format!("{method} answered no JSON"))?;
    if let Some(error) = answer.get("error") {
        bail!("{method}: {error}");
    }
    Ok(answer["result"].take())
}
