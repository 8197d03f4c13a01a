{{ serving_unified('households') }}
