# mr_test: how a test stands beside others.
#
# Several tests run at the same time: CTest has two places for each core (./dev test), because
# most of a test's time is waiting.  Every test is made for it: ports of its own (test/behaviour/
# ports.py, or whatever the kernel gives), a folder of its own, and no bound that a busy machine
# breaks.  Two kinds need more than one place:
#
#   alone    what is judged is how long something takes beside something else
#   busy     it keeps a core busy from its beginning to its end, and begins first: two places
#            are hardly ever free at a time once all are taken
#
# The long ones begin first, so that the end does not wait for one of them.
set(mr_tests_alone behaviour/storm)
set(mr_tests_busy ledger/soak ledger/ledger)
set(mr_tests_long ledger/soak ledger/ledger ledger/points ledger/cluster behaviour/kafka_secure
    behaviour/templates ledger/power behaviour/kafka_away behaviour/kafka_exactly_away
    behaviour/kafka_exactly behaviour/login unit/test_kafka sim/seeds behaviour/operate
    behaviour/commands behaviour/books behaviour/kafka behaviour/demo ledger/trouble)

# mr_test(NAME LABEL TIMEOUT COMMAND...): add_test, and its place among the others.
function(mr_test name label timeout)
    add_test(NAME ${name} COMMAND ${ARGN})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout})
    if(name IN_LIST mr_tests_alone)
        set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
    elseif(name IN_LIST mr_tests_busy)
        set_tests_properties(${name} PROPERTIES PROCESSORS 2)
    endif()
    list(FIND mr_tests_long ${name} place)
    if(NOT place EQUAL -1)
        math(EXPR cost "1000 - ${place}")
        set_tests_properties(${name} PROPERTIES COST ${cost})
    endif()
endfunction()
