# What there is to run beside `cargo test`. Needs just (https://just.systems); each line can be typed as well.

# The gate, as CI runs it
check:
    .ci/run

# Every test of docs/reliability.md at its full count, one after the other; prints the figures. Hours on two cores
night:
    OOMPH_TEST_FULL=1 nice cargo test --locked --profile night --test it -- --nocapture --test-threads=1

# Takes each guard of tests/guards.toml out of a copy and sees its test fail (or `just guards T1,V4`)
guards rows="all":
    OOMPH_TEST_GUARDS={{rows}} cargo test --locked --test it without_its_guard -- --nocapture

# A long run with faults all the while
soak seconds="1800":
    OOMPH_TEST_SOAK={{seconds}} cargo test --locked --test it a_long_run -- --nocapture

# Fuzzes each target for so many seconds
fuzz seconds="480":
    fuzz/run {{seconds}}
