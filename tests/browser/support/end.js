/**
 * Ends a process of tests without the clean-up of Node, which may spin there for ever although all tests have passed
 * (nodejs/node#47748). Loaded with --import by each `run` that tests with Node; the test runner passes it on to the
 * processes of its files. By then they have printed their results: no work is left in the event loop.
 */

process.once('beforeExit', () => process.on('exit', (code) => process.reallyExit(process.exitCode ?? code)));
