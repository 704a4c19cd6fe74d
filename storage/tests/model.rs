//! Random runs of a log, ended at every point at which they can be ended.

#[path = "model/random.rs"]
mod random;
#[path = "model/world.rs"]
mod world;

use longshore_storage::Level;

use self::world::{Ending, World};

/// Steps of a run, and how many points of it are tried when there are more.
const STEPS: u64 = 60;
const POINTS: u64 = 400;

/// Runs `steps` steps, or up to the first error, which can only be the cut of the power.
fn run(world: &mut World, steps: u64) {
    let opened = if world.log.is_none() { world.open() } else { Ok(()) };
    if let Err(error) = opened {
        assert!(world.disk.is_cut(), "{error}");
        return;
    }
    for _ in 0..steps {
        if let Err(failure) = world.step() {
            assert!(world.disk.is_cut(), "{failure}");
            // Nothing becomes durable any more.
            if let Some(log) = &mut world.log {
                let durable = log.durable();
                let pending = log.pending_bytes();
                assert!(log.flush().is_err() || pending == 0);
                assert_eq!(log.durable(), durable);
            }
            return;
        }
    }
}

/// Ends a run of this seed at each of its points, and goes on three times with what is left.
fn end_everywhere(seed: u64, level: Level, ending: Ending) {
    let mut world = World::new(seed, level);
    run(&mut world, STEPS);
    let operations = world.disk.operations();
    let stride = operations.div_ceil(POINTS);
    for point in (0..operations).step_by(stride as usize) {
        let mut world = World::new(seed, level);
        world.run = format!("seed {seed}, {level:?}, {ending:?}, cut at {point}");
        world.disk.cut_power_at(point);
        run(&mut world, STEPS);
        for round in 0..3 {
            world.end(ending);
            // The cut comes early, so that it often meets the opening.
            let next = world.random.below(if round == 0 { 12 } else { 120 });
            world.disk.cut_power_at(next);
            run(&mut world, STEPS / 2);
        }
        world.end(ending);
        world.open().unwrap_or_else(|error| panic!("seed {seed}, point {point}: {error}"));
    }
}

#[test]
fn what_is_durable_survives_a_cut_of_the_power_at_any_point() {
    for seed in 0..40 {
        end_everywhere(seed, Level::Power, Ending::PowerCut);
        end_everywhere(seed, Level::Power, Ending::Either);
    }
}

#[test]
fn what_is_written_survives_the_end_of_the_process_at_any_point() {
    for seed in 100..110 {
        end_everywhere(seed, Level::Process, Ending::Kill);
    }
}

#[test]
fn a_log_that_promises_less_than_power_still_opens_after_a_cut_of_it() {
    for seed in 200..210 {
        end_everywhere(seed, Level::Process, Ending::PowerCut);
        end_everywhere(seed, Level::Process, Ending::Either);
        end_everywhere(seed, Level::None, Ending::PowerCut);
        end_everywhere(seed, Level::None, Ending::Kill);
    }
}
