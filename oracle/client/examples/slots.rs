//! Prints the slots of a node with hash and time, as they come: `cargo run -p datagalax-client --example slots -- <url>`.

use datagalax_client::{rpc, slots::SlotWatch};

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8899".to_owned());
    let rpc = rpc::connect(&[url], &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut slots = SlotWatch::new(rpc, None, None);
    let mut first = None;
    loop {
        match slots.next().await {
            Err(error) => println!("{error}"),
            Ok(seen) => {
                let first = *first.get_or_insert(seen[0]);
                for slot in &seen {
                    println!(
                        "slot {} time {} hash {} seen {:?}",
                        slot.number,
                        slot.time,
                        &hex::encode(slot.hash)[40..],
                        slot.seen - first.seen
                    );
                }
                println!("  {:?}, first slot {:?}", slots.finalized().await, slots.finality(&first).await);
            }
        }
    }
}
