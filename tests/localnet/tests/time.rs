//! What the on-chain program relies on: Clock, SlotHashes, the pace of slots and the life of blockhashes.

mod support;

use std::{
    collections::HashSet,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_signer::Signer;
use solana_system_interface::instruction::transfer;
use support::{Clock, Localnet, SOL, encoded, sysvars, wait_for};

/// How long the clocks are compared.
const WATCHED: Duration = Duration::from_secs(12);

/// How far the chain's clock may be from this machine's, in seconds, at most looks.
const CLOCK_TOLERANCE: f64 = 2.0;

/// How far at any single look, in seconds: a loaded machine may make no block for a while, and the Clock stands meanwhile.
const CLOCK_WORST: f64 = 5.0;

/// The least the mean slot may take of the time asked for: no load makes slots quicker.
const FASTEST: f64 = 0.8;

/// The most the mean slot may take of the time asked for.
const SLOWEST: f64 = 1.2;

/// The same for quick slots: a slot that comes too late is left out, and on a slow machine that may be most of them.
const SLOWEST_QUICK: f64 = 4.0;

fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The chain's Clock, as it was at some moment between two of the wall's.
#[derive(Clone, Copy, Debug)]
struct Look {
    clock: Clock,
    before: f64,
    after: f64,
}

fn look(net: &Localnet) -> Look {
    let before = wall();
    let (clock, _) = sysvars(net);
    Look { clock, before, after: wall() }
}

/// How far a value is outside of a range, 0 inside it.
fn outside(value: f64, least: f64, most: f64) -> f64 {
    value - value.clamp(least, most)
}

fn clock_follows_wall_at(slot_time_ms: u64, slowest: f64) {
    let net = Localnet::start(&["--slot-time-ms", &slot_time_ms.to_string()]);
    let first = look(&net);
    let start = Instant::now();
    let mut last = first;
    let mut offs = Vec::new();
    while start.elapsed() < WATCHED {
        sleep(Duration::from_millis(250));
        let now = look(&net);
        // The chain cuts its time to whole seconds: half a second late on average.
        offs.push(outside(now.clock.unix_timestamp as f64 + 0.5, now.before, now.after));
        assert!(
            now.clock.unix_timestamp >= last.clock.unix_timestamp && now.clock.slot >= last.clock.slot,
            "time ran backwards: {last:?} then {now:?}"
        );
        last = now;
    }
    offs.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (median, farthest) = (offs[offs.len() / 2], offs[offs.len() - 1]);
    // What passed between the first and the last look, as far as it is known from outside.
    let (least, most) = (last.before - first.after, last.after - first.before);
    let advanced = last.clock.unix_timestamp - first.clock.unix_timestamp;
    let slots = last.clock.slot - first.clock.slot;
    let mean = |seconds: f64| seconds * 1_000.0 / slots as f64;
    println!(
        "slot time {slot_time_ms} ms: mean {:.1} to {:.1} ms over {slots} slots; Clock advanced {advanced} s in {least:.2} to {most:.2} s, median {median:+.2} s and farthest {farthest:+.2} s from the wall",
        mean(least),
        mean(most)
    );
    assert!(median.abs() <= CLOCK_TOLERANCE, "the chain's clock was {median:+.2} s off in the median");
    assert!(farthest.abs() <= CLOCK_WORST, "the chain's clock was {farthest:+.2} s off");
    // Of two single looks.
    assert!(outside(advanced as f64, least, most).abs() <= CLOCK_WORST, "{advanced} s in {least:.2} to {most:.2} s");
    let asked = slot_time_ms as f64;
    assert!(mean(most) >= FASTEST * asked, "slots of {slot_time_ms} ms took only {:.1} ms", mean(most));
    assert!(mean(least) <= slowest * asked, "slots of {slot_time_ms} ms took {:.1} ms", mean(least));
}

#[test]
fn clock_follows_wall_and_slots_keep_their_time() {
    clock_follows_wall_at(400, SLOWEST);
}

#[test]
fn so_do_quick_slots() {
    clock_follows_wall_at(50, SLOWEST_QUICK);
}

#[test]
fn slot_hashes_are_contiguous_distinct_and_end_at_the_current_slot() {
    let net = Localnet::start(&["--slot-time-ms", "50"]);
    let (clock, first) = sysvars(&net);
    let check = |slot: u64, entries: &[(u64, [u8; 32])]| {
        assert!(
            entries.iter().zip(&entries[1..]).all(|(a, b)| a.0 == b.0 + 1),
            "slots have gaps: {:?}",
            entries.iter().map(|e| e.0).collect::<Vec<_>>()
        );
        assert_eq!(entries[0].0, slot, "the newest entry is the current slot's");
        assert_eq!(entries.iter().map(|e| e.1).collect::<HashSet<_>>().len(), entries.len(), "a hash repeats");
    };
    check(clock.slot, &first);
    let wanted = clock.slot + 40;
    let (clock, later) =
        wait_for("40 slots pass", Duration::from_secs(30), || Some(sysvars(&net)).filter(|(c, _)| c.slot >= wanted));
    check(clock.slot, &later);
    // What was there stays as it was: a draw gives the same whoever reads the entry, and whenever.
    for (slot, hash) in &first {
        assert_eq!(later.iter().find(|e| e.0 == *slot).map(|e| &e.1), Some(hash), "the hash of slot {slot} changed");
    }
    let shared = (0..32).take_while(|&i| later.iter().all(|e| e.1[i] == later[0].1[i])).count();
    println!(
        "{} entries, newest {}, the first {shared} bytes of all hashes are the same: {:02x?}",
        later.len(),
        later[0].0,
        later[0].1
    );
    // Fails if Surfpool makes better hashes: then the README's warning can go.
    assert!(shared >= 8, "Surfpool's hashes share only {shared} leading bytes");
}

/// Beacons go by block times, and all who look must see the same ones, whenever they ask.
#[test]
fn a_block_has_the_time_that_its_clock_showed_and_keeps_it() {
    let net = Localnet::start(&["--slot-time-ms", "50"]);
    let payer = net.funded(SOL);
    let mut shown = std::collections::BTreeMap::new();
    let start = Instant::now();
    // Until enough were seen, however slow the machine is.
    while start.elapsed() < Duration::from_secs(3) || shown.len() <= 10 {
        assert!(start.elapsed() < Duration::from_secs(30), "only {} slots seen", shown.len());
        let (clock, _) = sysvars(&net);
        let new = shown.insert(clock.slot, clock.unix_timestamp).is_none();
        // Surfpool keeps blocks with transactions otherwise than empty ones.
        if new && shown.len() % 5 == 0 {
            net.send(&[transfer(&payer.pubkey(), &payer.pubkey(), shown.len() as u64)], &[&payer]).unwrap();
        }
    }
    for (slot, time) in shown {
        assert_eq!(net.rpc.get_block_time(slot).unwrap(), time, "slot {slot}");
    }
}

#[test]
fn slot_hashes_keep_512() {
    let net = Localnet::start(&["--slot-time-ms", "20"]);
    let (start, _) = sysvars(&net);
    let (_, entries) = wait_for("560 slots pass", Duration::from_secs(180), || {
        Some(sysvars(&net)).filter(|(c, _)| c.slot > start.slot + 560)
    });
    assert_eq!(entries.len(), 512);
    assert_eq!(entries[0].0 - entries[511].0, 511);
}

#[test]
fn blockhashes_progress_and_expire() {
    let net = Localnet::start(&["--slot-time-ms", "20"]);
    let payer = net.funded(SOL);
    let (old, last_valid) = net.rpc.get_latest_blockhash_with_commitment(CommitmentConfig::processed()).unwrap();
    let height_now = || net.rpc.get_block_height_with_commitment(CommitmentConfig::processed()).unwrap();
    let height = height_now();
    assert!(last_valid > height && last_valid <= height + 151, "valid until {last_valid} at height {height}");
    let valid = |hash: &Hash| net.rpc.is_blockhash_valid(hash, CommitmentConfig::processed()).unwrap();
    assert!(valid(&old));
    assert!(!valid(&Hash::new_from_array([7; 32])), "a hash nobody made is valid");
    wait_for("another blockhash", Duration::from_secs(30), || {
        (net.rpc.get_latest_blockhash().unwrap() != old).then_some(())
    });
    let stale = solana_transaction::Transaction::new_signed_with_payer(
        &[transfer(&payer.pubkey(), &payer.pubkey(), 1)],
        Some(&payer.pubkey()),
        &[&payer],
        old,
    );

    // It expired between these two heights. Slots go by between two calls, so neither is the one it expired at.
    let mut before = height;
    let after = wait_for("the blockhash expires", Duration::from_secs(30), || {
        let seen = height_now();
        if valid(&old) {
            before = seen;
            return None;
        }
        Some(height_now())
    });
    println!("valid until {last_valid} was announced; still valid at height {before}, gone at {after}");
    assert!(
        before <= last_valid + 5 && last_valid <= after + 5,
        "announced {last_valid}, still valid at {before}, gone at {after}"
    );
    let refusal = net.rpc.send_transaction(&stale).unwrap_err().to_string();
    assert!(refusal.contains("Blockhash not found"), "{refusal}");
    // Also where no simulation comes first.
    let skipped = net.try_call("sendTransaction", json!([encoded(&stale), {"encoding": "base64", "skipPreflight": true}]));
    println!("an expired blockhash without preflight: {skipped:?}");
    sleep(Duration::from_millis(200));
    assert!(net.rpc.get_signature_status(&stale.signatures[0]).unwrap().is_none_or(|status| status.is_err()));
}

#[test]
fn a_restart_is_a_fresh_network() {
    let mut net = Localnet::start(&[]);
    let account = net.funded(SOL).pubkey();
    let genesis = net.ready["genesis_hash"].clone();
    let (port, (_, hashes)) = (net.port, sysvars(&net));
    assert!(net.stop_by("TERM", Duration::from_secs(10)).success());
    let again = Localnet::start_on(port, &[]);
    assert_eq!(again.rpc.get_balance(&account).unwrap(), 0);
    println!("genesis {genesis} then {}", again.ready["genesis_hash"]);
    // Surfpool counts from the same number each time, so a draw at the same slot gives the same seed; see the README.
    let (_, second) = sysvars(&again);
    let common: Vec<_> = second.iter().filter(|(slot, hash)| hashes.iter().any(|(s, h)| s == slot && h == hash)).collect();
    println!("{} of {} slot hashes are those of the run before", common.len(), second.len());
}
