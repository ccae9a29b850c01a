"""Which tests `make test` leaves out, beside those of the nightly tier."""

SLOW = (
    "faults/",
    *(
        "training/",
        "cli/",
        "runner/",
        "documentation/test_commands",
        "quickstart/test_run",
        "quickstart/test_base_policy",
    ),
    *(
        "grid/test_grid_run",
        "grid/test_grid_interrupted",
        "grid/test_grid_report",
        "grid/test_preflight",
        "grid/test_grid_config.py::test_a_grid_with",
    ),
    *("experiments/", "test_arena", "test_experiments", "test_extras", "test_recipes", "test_small_instruct"),
    *("rollouts/test_interruption", "rollouts/test_prompts", "rollouts/test_sample", "rollouts/test_table_memory"),
    *("rollouts/test_launchers", "rollouts/test_many_processes", "rollouts/test_openai_engine"),
    *("judging/test_judge", "judging/test_resume", "judging/test_by_reward"),
    *("rollouts/test_train_and_sample", "rewards/test_reward_model"),
    *("fidelity/gradients/", "fidelity/test_break_even.py::test_the_interval_covers"),
    *("estimators/test_add_an_estimator", "tails/test_add_a_tail.py::test_in_the_library"),
    *("serving/test_failures", "serving/test_refused", "serving/test_server", "serving/test_behind_a_server"),
    *("serving/test_browser", "serving/test_quiet_log", "serving/test_counts_and_places"),
    "integrations/test_trl_async.py::test_the_process",
    *(
        "rewards/test_remote",
        "models/test_server",
        "models/test_openai_engine",
        "test_experiment_plan",
        "test_adaptive",
    ),
    *("test_files.py::test_a_lock", "test_front_door.py::test_the_import"),
    *("estimators/test_leave_two_out.py::test_what_it_gains", "estimators/test_contract.py::test_compile"),
)
"""How the names of tests begin that train, start processes or take seconds; `make test` leaves them out."""

SLOW_OF_CORE = (
    *("curves/test_report", "curves/test_forecast", "estimators/test_contract.py::test_any_rewards"),
    *("estimators/test_off_policy.py::test_teas_bias", "fidelity/test_small_pools", "fidelity/test_break_even"),
    *(
        "fidelity/test_fidelity.py::test_a_gaussian_policy",
        "planning/test_plan",
        "planning/test_measured",
        "statistics/test_intervals",
    ),
    *("statistics/test_jackknife.py::test_it_covers", "tails/test_reach", "tails/test_tails_report"),
    *(
        "planning/test_measured",
        "tails/test_diagnosis",
        "tails/test_far_forecasts.py::test_the_half_width",
        "tails/test_pareto.py::test_the_pooled",
    ),
)
"""The same of the core, whose mutants they tell from it: `make mutate-core` runs them too."""
