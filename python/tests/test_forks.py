"""What a child process may do with what its parent has made."""

from __future__ import annotations

from support import SOON, Program, line


def test_a_child_that_returns_from_a_handler_answers_no_job(program: Program, url: str) -> None:
    process = program(
        """
        import os, sys, haulage
        def handler(body):
            child = os.fork()
            if child == 0:
                return "the child's"
            os.waitpid(child, 0)
            return "the parent's"
        client = haulage.connect(sys.argv[1])
        with haulage.Worker(handler, client):
            print(client.submit(1).result(timeout=60), flush=True)
        """,
        url,
    )
    assert line(process) == "the parent's"
    assert process.wait(SOON) == 0
    assert process.stderr is not None
    assert "ForkError: this was made before the process was forked" in process.stderr.read()


def test_a_signal_to_a_child_is_none_to_its_parents_worker(program: Program, url: str) -> None:
    process = program(
        """
        import os, signal, sys, threading, haulage
        def handler(body):
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        client = haulage.connect(sys.argv[1])
        jobs = client.submit_many([1, 2])
        def look():
            try:
                print([job.result(timeout=60) for job in jobs], flush=True)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=look).start()
        print(haulage.Worker(handler, client).run()["succeeded"], flush=True)
        """,
        url,
    )
    assert line(process) == "[-15, -15]", "it dies of the signal, and the worker goes on"
    assert line(process) == "2"
    assert process.wait(SOON) == 0


def test_what_was_made_before_a_fork_is_refused_with_a_reason(program: Program, url: str) -> None:
    process = program(
        """
        import os, sys, haulage
        client = haulage.connect(sys.argv[1])
        job = client.submit(1)
        waiting = client._core.wait([job.id])
        child = os.fork()
        if child == 0:
            for call in (
                job.status, lambda: client.submit(2), client.close, waiting.wait,
                lambda: waiting.notify(print),
                lambda: haulage.connect(sys.argv[1]), lambda: haulage.connect("sqlite://other.db"),
            ):
                try:
                    call()
                except haulage.ForkError as error:
                    print(error, flush=True)
            del client, job, waiting
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(job.status(), client.submit(3).status(), flush=True)
        """,
        url,
    )
    for _ in range(5):
        message = line(process)
        assert "before the process was forked" in message and "call haulage.connect() in the child" in message
    for _ in range(2):
        message = line(process)
        assert "had an SQLite database open" in message and "call client.close() before it forks" in message
    assert line(process) == "0"
    assert line(process) == "SUBMITTED SUBMITTED"
    assert process.wait(SOON) == 0


def test_a_child_connects_for_itself_after_its_parent_has_closed(program: Program, url: str) -> None:
    process = program(
        """
        import logging, os, sys, haulage
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        def use(n):
            with haulage.connect(sys.argv[1]) as client:
                with haulage.Worker(lambda body: body + 1, client):
                    print(client.submit(n).result(timeout=60), flush=True)
        use(1)                      # the parent's client and worker are closed, and gone
        client = haulage.connect(sys.argv[1])
        job = client.submit(5)
        client.close()              # closed alone
        def child(then):
            pid = os.fork()
            if pid == 0:
                then()
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        child(lambda: use(20))
        child(lambda: child(lambda: use(30)))     # a child of a child, which has not used it
        def chain():
            use(40)
            child(lambda: use(50))
            use(60)
        child(chain)
        use(70)
        """,
        url,
    )
    # The job that is left from before is done by the first child's worker.
    assert [line(process) for _ in range(6)] == ["2", "21", "31", "41", "51", "61"]
    assert line(process) == "71"
    assert process.wait(SOON) == 0


def test_a_child_has_a_memory_of_its_own_whatever_its_parent_has_open(program: Program, url: str) -> None:
    process = program(
        """
        import multiprocessing, sys, haulage
        from haulage import testing
        kept = haulage.connect(sys.argv[1])
        memory = testing.memory()
        @haulage.task
        def double(n): return 2 * n
        running = haulage.Worker([double], memory)
        running.start()
        def child(n):
            client = testing.memory()
            with haulage.Worker([double], client):
                return double.using(client).submit(n).result(timeout=60)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(child, range(8)), flush=True)
        print(double.using(memory).submit(9).result(timeout=60), kept.stats()["visible"], flush=True)
        running.stop()
        """,
        url,
    )
    assert line(process) == "[0, 2, 4, 6, 8, 10, 12, 14]"
    assert line(process) == "18 0"
    assert process.wait(SOON) == 0


def test_a_task_connects_again_in_a_child(program: Program, url: str) -> None:
    process = program(
        """
        import multiprocessing, os, sys, haulage
        from haulage import _task
        os.environ["HAULAGE_URL"] = "memory://"
        @haulage.task
        def double(n): return 2 * n
        print(double.submit(1).status(), flush=True)
        def child():
            print(double.submit(2).status(), flush=True)
        with _task._connecting:     # as if another thread were about to connect
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
        process.join()
        print(process.exitcode, flush=True)
        """,
        url,
    )
    assert [line(process) for _ in range(3)] == ["SUBMITTED", "SUBMITTED", "0"]


def test_the_compatible_interface_connects_again_in_a_child(program: Program, url: str) -> None:
    process = program(
        """
        import multiprocessing, os, haulage
        from haulage._compat import items, location
        from haulage._compat.item import ResultStatus
        os.environ["HAULAGE_URL"] = "memory://"
        def producer():
            return haulage.Producer("jobs", ddb_client=haulage.DynamoDBClient("results"))
        def use(producer):
            message_id = producer.post_non_blocking({})
            producer.ddb_client.status_put(status=ResultStatus.SUBMITTED, message_id="own")
            return producer.retrieve_result_status(message_id).name
        kept = producer()
        print(use(kept), flush=True)
        def child():
            print(use(producer()), flush=True)
        with location._lock, items.Items._lock:     # as if another thread were about to connect
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
        process.join()
        print(process.exitcode, flush=True)
        """,
        url,
    )
    assert [line(process) for _ in range(3)] == ["SUBMITTED", "SUBMITTED", "0"]


def test_a_child_connects_though_another_thread_of_its_parent_was_connecting(
    program: Program, url: str
) -> None:
    process = program(
        """
        import os, sys, threading, haulage
        from haulage import _log
        haulage.connect("memory://")
        held, forked = threading.Event(), threading.Event()
        def connecting():
            with _log._started:
                held.set()
                forked.wait()
        threading.Thread(target=connecting).start()
        held.wait()
        child = os.fork()
        if child == 0:
            print(haulage.connect(sys.argv[1]).submit(1).status(), flush=True)
            os._exit(0)
        forked.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """,
        url,
    )
    assert (line(process), line(process)) == ("SUBMITTED", "0")


def test_a_fork_before_the_first_connect_is_fine(program: Program, url: str) -> None:
    process = program(
        """
        import os, sys, haulage
        if os.fork() == 0:
            print(haulage.connect(sys.argv[1]).submit(1).status(), flush=True)
            sys.exit(0)
        os.wait()
        print(haulage.connect(sys.argv[1]).stats()["visible"], flush=True)
        """,
        url,
    )
    assert (line(process), line(process)) == ("SUBMITTED", "1")


def test_processes_that_are_spawned_work(program: Program, url: str) -> None:
    process = program(
        """
        import multiprocessing, pathlib, sys
        pathlib.Path("tasks.py").write_text(
            "import haulage\\n"
            "def submit(url, n):\\n"
            "    return haulage.connect(url).submit(n).id\\n"
        )
        sys.path.insert(0, ".")
        import haulage, tasks
        client = haulage.connect(sys.argv[1])
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            ids = pool.starmap(tasks.submit, [(sys.argv[1], n) for n in range(4)])
        print(len({client.job(i).record().id for i in ids}), flush=True)
        """,
        url,
    )
    assert line(process) == "4"
