{{ serving_speed('households') }}
