//! `record_usage`: the host's own word, which pays nobody.

use datagalax::state::Lease;
use datagalax_program_tests::{actors::fingerprint, addresses, instructions, refusals::Call};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::Scene;

fn record(scene: &Scene, lease: &Pubkey, usage: [u64; 3]) -> solana_instruction::Instruction {
    instructions::record_usage(&scene.stage.world, &scene.operator.pubkey(), lease, usage[0], usage[1], usage[2])
}

#[test]
fn usage_is_cumulative_and_bounded_by_gpus_and_time() {
    let mut scene = Scene::new();
    let operator = scene.operator.clone();
    let lease = scene.open(0, 600);
    let instruction = record(&scene, &lease, [0; 3]);
    scene.world().refused(instruction, &[&operator], "WrongLeaseState");
    scene.start(&lease);
    let started = scene.stage.world.now();
    scene.world().set_time(started + 100);
    // One GPU for 100 seconds.
    let instruction = record(&scene, &lease, [101, 0, 0]);
    scene.world().refused(instruction, &[&operator], "UsageWentBack");
    let before = scene.lease(&lease);
    let instruction = record(&scene, &lease, [100, 5, u64::MAX]);
    scene.world().must(&[instruction], &[&operator]);
    let account = scene.lease(&lease);
    let expected = Lease { usage_gpu_seconds: 100, usage_energy: 5, usage_bytes: u64::MAX, ..before };
    assert_eq!(bytemuck::bytes_of(&account), bytemuck::bytes_of(&expected), "nothing else");
    for back in [[99, 5, u64::MAX], [100, 4, u64::MAX], [100, 5, u64::MAX - 1]] {
        let instruction = record(&scene, &lease, back);
        scene.world().refused(instruction, &[&operator], "UsageWentBack");
    }
    // After the end no more than the lease lasted; settled to its end, no more at all. A pause does not stop it.
    scene.world().set_time(started + 10_000);
    scene.world().set_paused(true);
    let instruction = record(&scene, &lease, [601, 5, u64::MAX]);
    scene.world().refused(instruction, &[&operator], "UsageWentBack");
    let instruction = record(&scene, &lease, [600, 5, u64::MAX]);
    scene.world().must(&[instruction], &[&operator]);
    scene.close(&operator, &lease);
    let instruction = record(&scene, &lease, [600, 6, u64::MAX]);
    scene.world().must(&[instruction], &[&operator]);
    scene.settle_to_the_end(&lease);
    let instruction = record(&scene, &lease, [600, 6, u64::MAX]);
    scene.world().refused(instruction, &[&operator], "WrongLeaseState");
}

#[test]
fn record_usage_refuses() {
    let mut scene = Scene::of(Default::default(), 2);
    let lease = scene.started(0, 600);
    let later = scene.stage.world.now() + 60;
    scene.world().set_time(later);
    let user = scene.user.clone();
    let mut wrong = record(&scene, &lease, [1, 1, 1]);
    wrong.accounts[0].pubkey = user.key.pubkey();
    scene.world().refused(wrong, &[&user.key], "Unauthorized");
    // In the name of another container of the same provider.
    let another = scene.world().container_operator(&fingerprint(1));
    let mut wrong = record(&scene, &lease, [1, 1, 1]);
    wrong.accounts[0].pubkey = another.pubkey();
    wrong.accounts[1].pubkey = addresses::container(scene.provider().id, &fingerprint(1));
    scene.world().refused(wrong, &[&another], "WrongAccount");
    let valid = record(&scene, &lease, [60, 1, 1]);
    let operator = scene.operator.clone();
    Call::new(scene.stage.world, valid, &[&operator]).check();
}
