"""All the bugs there are to plant, by name."""

from __future__ import annotations

from tests.simulation.mutants import commits, moves, ownership

MUTANTS = {
    plant.__name__: plant
    for plant in (
        commits.commit_before_the_work_ends,
        commits.commit_the_maximum_over_a_gap,
        commits.acknowledge_late_after_a_revoke,
        commits.store_the_dead_letter_after_the_commit,
        commits.commit_before_what_is_told_is_stored,
        moves.follow_into_the_wrong_level,
        moves.run_a_moved_record_before_its_origin_is_committed,
        moves.move_before_a_commit_covers_what_ran,
        moves.ignore_due_times,
        moves.let_a_key_go_on_before_its_dead_letter_is_stored,
        moves.move_a_record_twice_after_a_crash,
        moves.accept_what_a_zombie_wrote,
        moves.replay_into_the_lowest_level,
        moves.restore_without_unread_tier_records,
        moves.restore_without_dead_letters,
        ownership.keep_prefetched_records_over_a_rebalance,
        ownership.take_over_what_was_revoked_meanwhile,
        ownership.count_a_cancelled_run_as_done,
        ownership.count_a_failed_run_as_done_when_its_time_is_up,
        ownership.run_what_was_cancelled,
        ownership.tell_of_a_cancelled_job_too_late,
        ownership.keep_a_counter_of_bytes_that_leaks,
    )
}
