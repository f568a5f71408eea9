"""RFC 9293, requirement by requirement: what it asks, where we do it, which tests hold us to it.

    python -m tools.conformance            run the marked tests and write docs/conformance.md
    python -m tools.conformance --check    run nothing: is the document what the data and the marks say?
    python -m tools.conformance --mutate   take each behaviour out in turn: do its tests notice?

A test is marked with the labels it holds the code to: `@pytest.mark.rfc9293("MUST-13")`.
"""
