{{ serving_batch('households') }}
