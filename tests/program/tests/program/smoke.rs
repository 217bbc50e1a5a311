use datagalax_program_tests::{Report, World, epochs::all};

#[test]
fn a_row_goes_live() {
    let mut world = World::new();
    world.class_of(0, 100);
    let checkers: Vec<_> = (0..3).map(|_| world.checker_with(1, 0)).collect();
    let block = world.grown_block();
    let provider = world.provider_with(1_000_000_000);
    world.advance(0);
    world.containers(&provider, 0, block, 0, 1);
    world.check_books();
    let votes = all(Report::perfect());
    world.churn(0);
    world.draw(0);
    for epoch in 1..=5 {
        world.pass(&checkers, epoch, &votes);
    }
    world.finish(&checkers, 5, &votes);
    assert!(world.accrued(block) > 0);
}
