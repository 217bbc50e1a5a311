//! The JSON-RPC front.

use std::{io, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{BLOCKHASHES, Fault, Mark, Moment, QUESTIONS, Route, Shared, garbage, http, http_error, lock, trap::Trap};
use crate::actions::Sent;

/// Answers of one question that are remembered.
const ANSWERS: usize = 8;
/// Least time between two of them.
pub(super) const APART: Duration = Duration::from_millis(700);
/// How long a node stays down.
const OUTAGE: Duration = Duration::from_secs(3);
/// How far behind a lagging node is at most: 15 slots.
const LAG: Duration = Duration::from_secs(6);

/// A call as far as the proxy cares.
struct Call {
    id: Value,
    route: Route,
    simulation: bool,
    /// The transaction of a call that carries one.
    sent: Option<Sent>,
    /// What is asked, without the request's number.
    question: String,
}

impl Call {
    fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let method = body["method"].as_str().unwrap_or_default();
        let carries = matches!(method, "sendTransaction" | "simulateTransaction");
        let route = match method {
            "sendTransaction" => Route::Send,
            "getLatestBlockhash" => Route::Blockhash,
            _ => Route::Read,
        };
        Self {
            id: body["id"].clone(),
            route,
            simulation: method == "simulateTransaction",
            sent: carries.then(|| body["params"][0].as_str().and_then(Sent::read)).flatten(),
            question: format!("{method}{}", body["params"]),
        }
    }

    fn fits(&self, trap: &Trap) -> bool {
        let Mark::Transaction(payer, kind) = trap.mark else { return false };
        (trap.moment == Moment::Simulated) == self.simulation
            && self.sent.as_ref().is_some_and(|sent| sent.payer == payer && sent.does(kind))
    }
}

/// One call.
pub(super) async fn serve(shared: &Shared, node: usize, mut stream: TcpStream) -> io::Result<()> {
    let Some(request) = http::read(&mut stream).await? else { return Ok(()) };
    let call = Call::read(&request.body);
    if let Some(trap) = shared.trapped(|trap| call.fits(trap)) {
        if trap.moment != Moment::BeforeForward {
            let answer = http::forward(shared.upstream.rpc, &request).await?;
            if trap.moment == Moment::AfterAnswer {
                stream.write_all(&answer.bytes()).await?;
                stream.flush().await?;
            }
        }
        shared.hold(trap, call.sent.map(|sent| sent.actions).unwrap_or_default()).await;
        return Ok(());
    }
    if shared.nodes[node].is_down() {
        shared.count(Fault::Outage);
        return Ok(());
    }
    let (fault, detail) = shared.deal(node, call.route);
    let fault = fault.filter(|fault| *fault != Fault::Outage || shared.goes_down(node));
    let fault = fault.and_then(|fault| shared.possible(&call, fault, detail));
    if let Some((fault, _)) = &fault {
        shared.count(*fault);
    }
    let (fault, prepared) = fault.unzip();
    let mut answer = match (fault, prepared.flatten()) {
        (Some(Fault::Cut | Fault::Outage), _) => return Ok(()),
        (_, Some(prepared)) => prepared,
        (Some(Fault::Duplicate), _) => {
            http::forward(shared.upstream.rpc, &request).await?;
            http::forward(shared.upstream.rpc, &request).await?
        }
        _ => http::forward(shared.upstream.rpc, &request).await?,
    };
    if fault.is_none() {
        shared.remember(&call, &answer);
    }
    match fault {
        Some(Fault::LostTransaction | Fault::LostAnswer) => return Ok(()),
        Some(Fault::Delay) => sleep(shared.lateness(detail)).await,
        Some(Fault::Truncated) => answer.body.truncate(answer.body.len() / 2),
        _ => {}
    }
    stream.write_all(&answer.bytes()).await?;
    stream.shutdown().await
}

impl Shared {
    /// Takes a node down for a while, unless it is the last one that is up.
    fn goes_down(&self, node: usize) -> bool {
        let others_up = self.nodes.iter().enumerate().any(|(at, other)| at != node && !other.is_down());
        if others_up {
            *lock(&self.nodes[node].down_until) = Some(Instant::now() + OUTAGE / self.pace);
        }
        others_up
    }

    /// The fault with the answer that it puts in the place of the node's; `None` when there is nothing yet to make it of.
    fn possible(&self, call: &Call, fault: Fault, detail: u64) -> Option<(Fault, Option<http::Message>)> {
        let answer = |value: Value| http::Message::answer("200 OK", "application/json", value.to_string().as_bytes());
        let of = |mut value: Value| {
            value["id"] = call.id.clone();
            answer(value)
        };
        let made = match fault {
            Fault::HttpError => Some(http_error(detail)),
            Fault::Garbage => Some(garbage(detail)),
            Fault::RpcError => {
                let error = json!({"code": -32005, "message": "Node is behind by 42 slots", "data": {"numSlotsBehind": 42}});
                Some(answer(json!({"jsonrpc": "2.0", "id": call.id, "error": error})))
            }
            Fault::StaleBlockhash => {
                let known = lock(&self.blockhashes);
                // Of the older half, so that some can no longer be used and others only just.
                let older = known.len() / 2;
                if older == 0 {
                    return None;
                }
                Some(of(known[(detail % older as u64) as usize].clone()))
            }
            Fault::Lagging => {
                let past = lock(&self.past);
                let (_, old) =
                    past.get(&call.question)?.iter().find(|(at, _)| at.elapsed() <= LAG && at.elapsed() >= APART)?;
                Some(of(old.clone()))
            }
            _ => None,
        };
        Some((fault, made))
    }

    /// Keeps a good answer, to be given again when it is old.
    fn remember(&self, call: &Call, answer: &http::Message) {
        let Ok(value) = serde_json::from_slice::<Value>(&answer.body) else { return };
        if value.get("error").is_some() {
            return;
        }
        if call.route == Route::Blockhash {
            let mut known = lock(&self.blockhashes);
            if known.len() == BLOCKHASHES {
                known.pop_front();
            }
            known.push_back(value);
        } else if call.route == Route::Read && !call.simulation {
            let mut past = lock(&self.past);
            if past.len() >= QUESTIONS && !past.contains_key(&call.question) {
                // Questions about signatures that nobody asks any more.
                past.retain(|_, answers| answers.back().is_some_and(|(at, _)| at.elapsed() <= LAG));
            }
            if past.len() >= QUESTIONS && !past.contains_key(&call.question) {
                return;
            }
            let answers = past.entry(call.question.clone()).or_default();
            if answers.back().is_none_or(|(at, _)| at.elapsed() >= APART) {
                if answers.len() == ANSWERS {
                    answers.pop_front();
                }
                answers.push_back((Instant::now(), value));
            }
        }
    }
}
